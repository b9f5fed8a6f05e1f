package main_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	// slowSpan is how long the update takes.
	slowSpan = 5 * time.Minute
	// slowDeletions are instances of the challenge that is updated which are deleted
	// meanwhile: it has no others in the end.
	slowDeletions = 40
)

// A slowCall is one that is made in each round, or in so many.
type slowCall struct {
	what   string
	rounds int // 0 is all
	call   func(s *server, round int)
}

// slowCalls are made about a challenge that is not updated, and about "slow". Creates
// of that one wait for the update.
func slowCalls() []slowCall {
	other := func(round int) string { return "/instance/other/" + strconv.Itoa(round) }
	return []slowCall{
		{"create", 0, func(s *server, round int) {
			s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "other", "sourceId": strconv.Itoa(round)})
		}},
		{"retrieve", 0, func(s *server, round int) { s.Must(http.MethodGet, other(round), nil) }},
		{"query", 0, func(s *server, round int) { s.Must(http.MethodGet, "/instance?sourceId="+strconv.Itoa(round), nil) }},
		{"renew", 0, func(s *server, round int) { s.Must(http.MethodPatch, other(round), map[string]any{}) }},
		{"update", 0, func(s *server, round int) {
			s.Must(http.MethodPatch, "/challenge/other", map[string]any{
				"additional": map[string]string{"round": strconv.Itoa(round)}, "updateMask": "additional",
			})
		}},
		{"delete", 0, func(s *server, round int) { s.Must(http.MethodDelete, other(round), nil) }},
		{"retrieve of slow", 0, func(s *server, _ int) { s.Must(http.MethodGet, "/instance/slow/0", nil) }},
		{"query of slow", 0, func(s *server, _ int) { s.Must(http.MethodGet, "/instance?sourceId=0", nil) }},
		{"renew of slow", 0, func(s *server, _ int) { s.Must(http.MethodPatch, "/instance/slow/0", map[string]any{}) }},
		{"delete of slow", slowDeletions, func(s *server, round int) {
			s.Must(http.MethodDelete, fmt.Sprint("/instance/slow/", slowInstances+round), nil)
		}},
	}
}

// BenchmarkSlowUpdate measures, by turns, what callers wait for while an update takes
// minutes and where there is none. It never fails on speed.
func BenchmarkSlowUpdate(b *testing.B) {
	without, with := newSlowSite(b), newSlowSite(b)
	h := holdUpdate(b, with)
	spans := map[string]map[*server][]time.Duration{}
	calls := slowCalls()
	for _, c := range calls {
		spans[c.what] = map[*server][]time.Duration{}
	}
	round := 0
	for over := time.Now().Add(slowSpan); time.Now().Before(over); round++ {
		first, second := without, with
		if round%2 == 1 {
			first, second = with, without
		}
		for _, s := range []*server{first, second} {
			for _, c := range calls {
				if c.rounds > 0 && round >= c.rounds {
					continue
				}
				began := time.Now()
				c.call(s, round)
				spans[c.what][s] = append(spans[c.what][s], time.Since(began))
			}
		}
	}
	h.end(b)
	without.Stop() // before their directories go
	with.Stop()
	title := fmt.Sprintf("What callers wait for while an update of the challenge slow takes %s, and without it.", slowSpan)
	printAligned(os.Stdout, title, tabwriter.AlignRight, func(line func(...any)) {
		line("call", "calls", "without, p50", "with, p50", "ratio", "without, p99", "with, p99")
		for _, c := range calls {
			before, during := spans[c.what][without], spans[c.what][with]
			p50, slow := median(before), median(during) // which sorts them
			line(c.what, len(during), milliseconds(p50), milliseconds(slow), fmt.Sprintf("%.2f", float64(slow)/float64(p50)),
				milliseconds(before[len(before)*99/100]), milliseconds(during[len(during)*99/100]))
		}
	})
}

func newSlowSite(b *testing.B) *server {
	s := newServer(b, slowUpdate()...)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "other", "scenario": pushService(b, s, "service:1"), "timeout": "3600s"})
	s.createSlow(slowInstances + slowDeletions)
	return s
}
