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

// slowRounds is how often each call is made with and without the update.
const slowRounds = 40

// BenchmarkSlowUpdate measures, by turns, what others wait for while an update is
// held and where there is none. It never fails on speed.
func BenchmarkSlowUpdate(b *testing.B) {
	without, with := newSlowSite(b), newSlowSite(b)
	h := holdUpdate(b, with)
	spans := map[string]map[*server][]time.Duration{}
	calls := []string{"create", "retrieve", "renew", "delete"}
	for round := range slowRounds {
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
	title := fmt.Sprintf("What others wait for while %d instances of a challenge are updated, p50.", slowBound)
	printAligned(os.Stdout, title, tabwriter.AlignRight, func(line func(...any)) {
		line("call", "without", "with", "ratio")
		for _, call := range calls {
			before, during := median(spans[call][without]), median(spans[call][with])
			line(call, milliseconds(before), milliseconds(during), fmt.Sprintf("%.2f", float64(during)/float64(before)))
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
