package main_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// slowInstances follow an update, more than may do so at once.
	slowInstances = 6
	slowBound     = 3
)

// slowUpdate bounds a server that updates slowBound instances of a challenge at
// once.
func slowUpdate() []string { return append(quiet, "WORKERS=6", "DEPLOYMENTS=4") }

// A heldUpdate is an update of the challenge "slow" that gets no further until it
// is released.
type heldUpdate struct {
	*hold

	ended chan reply
}

// createSlow makes the challenge "slow", and so many instances of it.
func (s *server) createSlow(instances int) {
	s.tb.Helper()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "slow", "scenario": pushService(s.tb, s, "slow:1"), "timeout": "3600s"})
	for n := range instances {
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "slow", "sourceId": strconv.Itoa(n)})
	}
}

// holdUpdate begins an update of the challenge, and returns when it holds everything
// that it may.
func holdUpdate(tb testing.TB, s *server) *heldUpdate {
	tb.Helper()
	h := &heldUpdate{newHold(tb), make(chan reply, 1)}
	go func() {
		answer, err := s.Call(context.WithoutCancel(tb.Context()), http.MethodPatch, "/challenge/slow", map[string]any{
			"additional": h.additional(), "updateMask": "additional",
		})
		if err != nil {
			answer.Raw = err.Error()
		}
		h.ended <- answer
	}()
	eventually(tb, "the update is held", func() error { return h.holds(slowBound) })
	return h
}

// end lets the update go on to its end.
func (h *heldUpdate) end(tb testing.TB) {
	tb.Helper()
	h.release(tb)
	if answer := <-h.ended; answer.Status != http.StatusOK {
		tb.Errorf("the update is answered with %d %s", answer.Status, answer.Raw)
	}
}

// TestSlowUpdate: while one challenge is updated without end, everything else is
// done, on its own instances too.
func TestSlowUpdate(t *testing.T) {
	s := newServer(t, slowUpdate()...)
	s.Start()
	reference := pushService(t, s, "service:1")
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "other", "scenario": reference, "timeout": "3600s"})
	s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "other", "sourceId": "0"})
	s.createSlow(slowInstances)
	h := holdUpdate(t, s)

	for n := range slowInstances {
		path := fmt.Sprintf("/instance/slow/%d", n)
		s.Must(http.MethodGet, path, nil)
		s.Must(http.MethodPatch, path, map[string]any{})
	}
	s.Must(http.MethodGet, "/challenge/slow", nil)
	s.Must(http.MethodGet, "/challenge", nil)
	s.Must(http.MethodDelete, "/instance/slow/0", nil)
	atOnce(12, func(n int) {
		path := fmt.Sprintf("/instance/other/%d", n+1)
		for _, call := range []struct {
			method, path string
			body         any
		}{
			{http.MethodPost, "/instance", map[string]any{"challengeId": "other", "sourceId": strconv.Itoa(n + 1)}},
			{http.MethodGet, path, nil},
			{http.MethodPatch, path, map[string]any{}},
			{http.MethodDelete, path, nil},
		} {
			if answer, err := s.Call(t.Context(), call.method, call.path, call.body); err != nil || answer.Status != http.StatusOK {
				t.Errorf("%s %s: %v %d %s", call.method, call.path, err, answer.Status, answer.Raw)
			}
		}
	})
	s.Must(http.MethodPatch, "/challenge/other", map[string]any{"additional": map[string]string{"round": "2"}, "updateMask": "additional"})
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "new", "scenario": reference})
	s.Must(http.MethodDelete, "/challenge/new", nil)
	s.Must(http.MethodDelete, "/challenge/other", nil)

	select {
	case answer := <-h.ended:
		t.Fatalf("the update did not last: %d %s", answer.Status, answer.Raw)
	default:
	}
	eventually(t, "as many are held as before", func() error { return h.holds(slowBound) })
	h.end(t)
	for n := 1; n < slowInstances; n++ {
		answers(t, s.Must(http.MethodGet, fmt.Sprintf("/instance/slow/%d", n), nil).ConnectionInfo)
	}
	if answer := s.try(t, http.MethodGet, "/instance/slow/0", nil); answer.Reason() != string(ctf.ReasonInstanceNotFound) {
		t.Errorf("what was deleted: %d %s", answer.Status, answer.Raw)
	}
	s.Must(http.MethodDelete, "/challenge/slow", nil)
	wantNothingRunning(t, s)
}
