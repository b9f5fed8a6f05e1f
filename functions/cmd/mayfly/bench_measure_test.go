package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A measurement is one verb under one load.
type measurement struct {
	verb           string
	callers, count int
	do             func(n int) error
}

// warm is how many calls go before those that are measured.
func (m measurement) warm() int { return m.callers }

func (m measurement) calls() int { return m.warm() + m.count }

// A row is what was measured.
type row struct {
	verb            string
	stored, callers int
	p50, p95        time.Duration
	rate            float64 // per second
	peak, workers   int     // bytes of memory
}

// measure makes the calls and takes down a row.
func (s *site) measure(m measurement) {
	s.b.Helper()
	if _, err := m.run(0, m.warm()); err != nil {
		s.b.Fatal(err)
	}
	for n := range benchChallenges {
		s.published(benchChallenge(n))
	}
	s.resetPeaks()
	began := time.Now()
	spans, err := m.run(m.warm(), m.calls())
	if err != nil {
		s.b.Fatalf("%s by %d callers: %v", m.verb, m.callers, err)
	}
	elapsed := time.Since(began)
	p50 := median(spans) // it sorts them, too
	r := row{
		verb: m.verb, stored: s.stored, callers: m.callers,
		p50: p50, p95: spans[len(spans)*95/100],
		rate: float64(len(spans)) / elapsed.Seconds(),
		peak: memory(s.server.cmd.Process.Pid, "VmHWM"),
	}
	for _, pid := range s.server.Workers() {
		r.workers += memory(pid, "VmHWM")
	}
	s.rows = append(s.rows, r)
	fmt.Fprintf(os.Stderr, "%7d stored, %2d callers: %-8s %8s\n", r.stored, r.callers, r.verb, milliseconds(r.p50))
}

// median sorts the spans and returns the one in the middle.
func median(spans []time.Duration) time.Duration {
	slices.Sort(spans)
	return spans[len(spans)/2]
}

// run makes the calls of numbers from up to below to and returns how long each
// took.
func (m measurement) run(from, to int) ([]time.Duration, error) {
	spans := make([]time.Duration, to-from)
	failures := make([]error, m.callers)
	var next atomic.Int64
	var group sync.WaitGroup
	for c := range m.callers {
		group.Go(func() {
			for failures[c] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(spans) {
					return
				}
				began := time.Now()
				failures[c] = m.do(from + n)
				spans[n] = time.Since(began)
			}
		})
	}
	group.Wait()
	return spans, errors.Join(failures...)
}

// resetPeaks has the kernel forget how much memory the server and its workers
// once used. Where it refuses, peaks are those since the start.
func (s *site) resetPeaks() {
	for _, pid := range append(s.server.Workers(), s.server.cmd.Process.Pid) {
		_ = os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "clear_refs"), []byte("5"), 0)
	}
}

// memory returns a figure of a process in bytes, 0 if it is gone.
func memory(pid int, name string) int {
	status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	_, rest, _ := bytes.Cut(status, []byte("\n"+name+":"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kilobytes, _ := strconv.Atoi(string(fields[0]))
	return kilobytes << 10
}

// The curve of memory is made of this many points, with as many operations
// between two, of which some run the engine.
const (
	curvePoints     = 10
	curveOperations = 1000
	curveEngine     = 30 // creates, and as many deletes
)

// A point is the memory that the server uses after a number of operations.
type point struct {
	operations       int
	peak, idle       int // since the last point; and now
	workers, running int // bytes, and how many
}

// measureMemory follows the server's memory over a mix of all verbs.
func (s *site) measureMemory() []point {
	var curve []point
	for n := range curvePoints {
		s.resetPeaks()
		s.mix(n)
		p := point{operations: (n + 1) * curveOperations, peak: memory(s.server.cmd.Process.Pid, "VmHWM")}
		p.idle = s.idle()
		workers := s.server.Workers()
		p.running = len(workers)
		for _, pid := range workers {
			p.workers += memory(pid, "VmRSS")
		}
		curve = append(curve, p)
	}
	return curve
}

// mix makes the operations between two points of the curve.
func (s *site) mix(round int) {
	number := func(n int) int { return round*curveEngine + n }
	for _, m := range []measurement{
		{callers: 10, count: curveEngine, do: func(n int) error { return s.create(benchChallenge(0).ID, fmt.Sprint("mix-", number(n))) }},
		{callers: 10, count: curveOperations - 2*curveEngine, do: func(n int) error {
			return []func(int) error{s.retrieve, s.query, s.renew}[n%3](n)
		}},
		{callers: 10, count: curveEngine, do: func(n int) error {
			return s.call(http.MethodDelete, instancePath(challengeName(0), fmt.Sprint("mix-", number(n))), nil)
		}},
	} {
		if _, err := m.run(0, m.count); err != nil {
			s.b.Fatal(err)
		}
	}
}

// idle waits until the server's memory shrinks no more, and returns it.
func (s *site) idle() int {
	const quiet = 3 * time.Second // without a new low
	lowest, since := memory(s.server.cmd.Process.Pid, "VmRSS"), time.Now()
	eventually(s.b, "the server is idle", func() error {
		if now := memory(s.server.cmd.Process.Pid, "VmRSS"); now < lowest {
			lowest, since = now, time.Now()
		}
		if time.Since(since) < quiet {
			return errors.New("its memory shrinks")
		}
		return nil
	})
	return lowest
}
