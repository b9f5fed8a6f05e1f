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

// slowSpan is how long the update takes.
const slowSpan = 5 * time.Minute

// BenchmarkSlowUpdate measures, by turns, what others wait for while an update takes
// minutes and where there is none. It never fails on speed.
func BenchmarkSlowUpdate(b *testing.B) {
	without, with := newSlowSite(b), newSlowSite(b)
	h := holdUpdate(b, with)
	spans := map[string]map[*server][]time.Duration{}
	calls := []string{"create", "retrieve", "renew", "delete"}
	round := 0
	for over := time.Now().Add(slowSpan); time.Now().Before(over); round++ {
		first, second := without, with
		if round%2 == 1 {
			first, second = with, without
		}
		for _, s := range []*server{first, second} {
			for _, call := range calls {
				began := time.Now()
				s.slowCall(call, round)
				if spans[call] == nil {
					spans[call] = map[*server][]time.Duration{}
				}
				spans[call][s] = append(spans[call][s], time.Since(began))
			}
		}
	}
	h.end(b)
	title := fmt.Sprintf("What others wait for while an update of a challenge takes %s: %d calls of each.", slowSpan, round)
	printAligned(os.Stdout, title, tabwriter.AlignRight, func(line func(...any)) {
		line("call", "without, p50", "with, p50", "ratio", "without, p99", "with, p99")
		for _, call := range calls {
			before, during := spans[call][without], spans[call][with]
			p50, slow := median(before), median(during) // which sorts them
			line(call, milliseconds(p50), milliseconds(slow), fmt.Sprintf("%.2f", float64(slow)/float64(p50)),
				milliseconds(before[len(before)*99/100]), milliseconds(during[len(during)*99/100]))
		}
	})
}

func newSlowSite(b *testing.B) *server {
	s := newServer(b, slowUpdate()...)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "other", "scenario": pushService(b, s, "service:1"), "timeout": "3600s"})
	return s
}

// slowCall makes one call about an instance of the challenge that is not
// updated.
func (s *server) slowCall(call string, n int) {
	s.tb.Helper()
	path := "/instance/other/" + strconv.Itoa(n)
	switch call {
	case "create":
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "other", "sourceId": strconv.Itoa(n)})
	case "retrieve":
		s.Must(http.MethodGet, path, nil)
	case "renew":
		s.Must(http.MethodPatch, path, map[string]any{})
	case "delete":
		s.Must(http.MethodDelete, path, nil)
	}
}
