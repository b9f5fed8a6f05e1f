package main_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"
)

// BenchmarkMayfly measures every verb of instances over HTTP, prints one table
// and says which aims are met. It is run once, and never fails on speed. With
// -short it stops at the fewest instances.
func BenchmarkMayfly(b *testing.B) {
	s := newSite(b)
	levels := []int{10, 10_000, 100_000}
	if testing.Short() {
		levels = levels[:1]
	}
	for _, stored := range levels {
		s.seed(stored)
		for _, callers := range []int{1, 10, 50} {
			s.measureLight(callers)
			s.measureClaim(callers)
			s.measureEngine(callers)
		}
	}
	curve := s.measureMemory()
	printTable(os.Stdout, s.rows)
	printCurve(os.Stdout, curve)
	printRatios(os.Stdout, s.rows)
	printAims(os.Stdout, append(aims(s.rows), sameRetrieve(compareRetrieve(s)), flatMemory(curve)))
}

// compareRetrieve retrieves by turns from a new site with few instances and
// from the one with many, so that whatever else this machine does meanwhile
// slows down both. Rows of the table are minutes apart.
func compareRetrieve(many *site) comparison {
	few := newSite(many.b)
	few.seed(10)
	c := comparison{few: few.stored, many: many.stored}
	var short, long []time.Duration
	for range 40 {
		short = append(short, few.retrieves(100)...)
		long = append(long, many.retrieves(100)...)
	}
	c.withFew, c.withMany = median(short), median(long)
	return c
}

func (s *site) retrieves(count int) []time.Duration {
	spans, err := measurement{callers: 1, do: s.retrieve}.run(0, count)
	s.check(err)
	return spans
}

// measureLight measures the verbs that run no engine, and what any call costs
// that does nothing but ask Redis whether it is there.
func (s *site) measureLight(callers int) {
	count := 5000
	if callers == 1 {
		count = 2000
	}
	s.measure(measurement{verb: "health", callers: callers, count: count, do: func(int) error {
		return s.call(http.MethodGet, "/healthcheck", nil)
	}})
	s.measure(measurement{verb: "retrieve", callers: callers, count: count, do: s.retrieve})
	s.measure(measurement{verb: "query", callers: callers, count: count, do: s.query})
	s.measure(measurement{verb: "renew", callers: callers, count: count, do: s.renew})
}

func (s *site) retrieve(int) error {
	return s.call(http.MethodGet, s.anyInstance().path(), nil)
}

func (s *site) query(int) error {
	return s.call(http.MethodGet, "/api/v1/instance?sourceId="+s.anyInstance().source, nil)
}

func (s *site) renew(int) error {
	return s.call(http.MethodPatch, s.anyInstance().path(), map[string]any{})
}

// measureClaim measures creates that a pool answers. The pool is as large as
// the measurement needs, and wants no refill.
func (s *site) measureClaim(callers int) {
	m := measurement{verb: "claim", callers: callers, count: 2000}
	if callers == 1 {
		m.count = 500
	}
	pool := s.openPool(m.calls())
	m.do = func(n int) error { return s.create(pool.ID, fmt.Sprint("source-", n)) }
	s.measure(m)
	s.removePool(pool)
}

func (s *site) create(challenge any, source string) error {
	return s.call(http.MethodPost, "/api/v1/instance", map[string]any{"challengeId": challenge, "sourceId": source})
}

// measureEngine measures creates and deletes that run the engine, and how long
// the scenario's program alone takes to start and end.
func (s *site) measureEngine(callers int) {
	m := measurement{callers: callers, count: 40}
	if callers > 1 {
		m.count = 6 * callers
	}
	program, create, remove := m, m, m
	program.verb, program.do = "program", func(int) error { return s.runProgram() }
	create.verb, create.do = "create", func(n int) error { return s.create(challengeName(n%benchChallenges), benchSource(n)) }
	remove.verb, remove.do = "delete", s.deleteCreated
	s.measure(program)
	s.measure(create)
	s.measure(remove)
}

func (s *site) deleteCreated(n int) error {
	return s.call(http.MethodDelete, instancePath(challengeName(n%benchChallenges), benchSource(n)), nil)
}

// benchSource names who creates and deletes while it is measured.
func benchSource(n int) string { return fmt.Sprint("new-", n) }
