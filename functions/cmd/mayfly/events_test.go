package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A sink takes every event, as what K_SINK names does.
type sink struct {
	URL string

	mu       sync.Mutex
	received []receivedEvent
}

type receivedEvent struct {
	ID, Type, Subject, Raw string
	Challenge              string `json:"challenge"`
	Identity               string `json:"identity"`
	Revision               int64  `json:"revision"`
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e := receivedEvent{
			ID: r.Header.Get("Ce-Id"), Type: strings.TrimPrefix(r.Header.Get("Ce-Type"), "dev.mayfly."),
			Subject: r.Header.Get("Ce-Subject"), Raw: fmt.Sprint(r.Header, string(body)),
		}
		if err != nil || json.Unmarshal(body, &e) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.received = append(s.received, e)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// of returns the events of a challenge in the order in which they came first.
func (s *sink) of(challenge string) []receivedEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	var found []receivedEvent
	for _, e := range s.received {
		if e.Challenge == challenge && !seen[e.ID] {
			seen[e.ID] = true
			found = append(found, e)
		}
	}
	return found
}

// count is how many events of a type came for a challenge.
func (s *sink) count(challenge string, kind ctf.EventType) int {
	n := 0
	for _, e := range s.of(challenge) {
		if e.Type == string(kind) {
			n++
		}
	}
	return n
}

// TestBrokenPool keeps a pool of a scenario that fails for ever. Its failures
// must not wake it at once, again and again.
func TestBrokenPool(t *testing.T) {
	sink := newSink(t)
	s := newServer(t, "LOG_LEVEL=warn", "K_SINK="+sink.URL, "RECONCILE=1h")
	s.Start()
	reference := pushService(t, s, "service:1")
	s.Must(http.MethodPost, "/challenge", map[string]any{
		"id": "broken", "scenario": reference, "min": 2, "additional": map[string]string{"command": "/bin/false"},
	})
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "sound", "scenario": reference})
	eventually(t, "the first failures", func() error {
		if n := sink.count("broken", ctf.InstanceDestroyed); n < 2 {
			return fmt.Errorf("%d were destroyed, want 2", n)
		}
		return nil
	})
	for range 10 {
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "sound", "sourceId": "1"})
		s.Must(http.MethodDelete, "/instance/sound/1", nil)
	}
	if n := sink.count("broken", ctf.InstancePending); n > 2 {
		t.Errorf("%d deployments were tried, want 2", n)
	}
}
