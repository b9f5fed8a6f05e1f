package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// atOnce calls f n times at once and waits.
func atOnce(n int, f func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	group.Wait()
}

func TestConcurrency(t *testing.T) {
	s := newServer(t, "LOG_LEVEL=warn", "CREATE_WAIT=4m") // no create is to be refused
	s.Start()
	reference := pushService(t, s, "service:1")

	t.Run("A28 of 50 creates for one source one succeeds", func(t *testing.T) {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": "single", "scenario": reference})
		var succeeded, refused atomic.Int64
		atOnce(50, func(int) {
			answer, err := s.Call(t.Context(), http.MethodPost, "/instance", map[string]any{"challengeId": "single", "sourceId": "1"})
			switch {
			case err != nil:
				t.Error(err)
			case answer.Status == http.StatusOK:
				succeeded.Add(1)
			case answer.Status == http.StatusConflict && strings.Contains(answer.Message, "already exist"):
				refused.Add(1)
			default:
				t.Errorf("%d %s", answer.Status, answer.Raw)
			}
		})
		if succeeded.Load() != 1 || refused.Load() != 49 {
			t.Errorf("%d succeeded and %d were refused, want 1 and 49", succeeded.Load(), refused.Load())
		}
		if n := len(s.processes()); n != 1 {
			t.Errorf("%d instances run, want 1", n)
		}
		s.Must(http.MethodDelete, "/challenge/single", nil)
	})

	t.Run("equal deletes: one succeeds, the others find nothing", func(t *testing.T) {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": "gone", "scenario": reference})
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "gone", "sourceId": "1"})
		oneOf(t, s, http.MethodDelete, "/instance/gone/1")
		oneOf(t, s, http.MethodDelete, "/challenge/gone")
	})

	t.Run("A38 200 sources never share one of a pool of 20", func(t *testing.T) {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": "pool", "scenario": reference, "min": 20, "max": 20})
		eventually(t, "the pool is filled", func() error {
			if n := len(s.processes()); n != 20 {
				return fmt.Errorf("%d instances run", n)
			}
			return nil
		})
		addresses := make([]string, 200)
		atOnce(len(addresses), func(i int) {
			answer, err := s.Call(t.Context(), http.MethodPost, "/instance", map[string]any{"challengeId": "pool", "sourceId": fmt.Sprint(i)})
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("source %d: %v %d %s", i, err, answer.Status, answer.Raw)
			}
			addresses[i] = answer.ConnectionInfo
		})
		holder := map[string]int{}
		for i, address := range addresses {
			if other, taken := holder[address]; taken {
				t.Errorf("sources %d and %d share %s", i, other, address)
			}
			holder[address] = i
		}
		s.Must(http.MethodDelete, "/challenge/pool", nil)
		if left := s.processes(); len(left) != 0 {
			t.Errorf("these still run: %v", left)
		}
	})

	t.Run("a race of all verbs ends as some order explains", func(t *testing.T) { race(t, s, reference) })
}

// oneOf makes equal calls at once, of which one must succeed and the others
// find nothing.
func oneOf(t *testing.T, s *server, method, path string) {
	t.Helper()
	var succeeded atomic.Int64
	atOnce(20, func(int) {
		answer, err := s.Call(t.Context(), method, path, nil)
		switch {
		case err != nil:
			t.Error(err)
		case answer.Status == http.StatusOK:
			succeeded.Add(1)
		case answer.Status != http.StatusNotFound:
			t.Errorf("%s %s: %d %s", method, path, answer.Status, answer.Raw)
		}
	})
	if succeeded.Load() != 1 {
		t.Errorf("%s %s: %d succeeded, want 1", method, path, succeeded.Load())
	}
}

// race has all verbs at one instance at once. In whatever order they took
// effect, each successful delete took away what one create had made.
func race(t *testing.T, s *server, reference string) {
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "race", "scenario": reference, "timeout": "3600s"})
	call := func(method, path string, body any, allowed ...string) reply {
		answer, err := s.Call(t.Context(), method, path, body)
		if err != nil {
			t.Error(err)
		}
		for _, reason := range allowed {
			if answer.Status == http.StatusOK || answer.Reason() == reason {
				return answer
			}
		}
		t.Errorf("%s %s: %d %s", method, path, answer.Status, answer.Raw)
		return answer
	}
	var made, deleted atomic.Int64
	strategies := []string{"update_in_place", "blue_green", "recreate"}
	atOnce(40, func(i int) {
		for round := range 5 {
			switch (i + round) % 4 {
			case 0:
				answer := call(http.MethodPost, "/instance", map[string]any{"challengeId": "race", "sourceId": "1"}, "INSTANCE_ALREADY_EXISTS", "INSTANCE_DELETED")
				if answer.Status == http.StatusOK || answer.Reason() == "INSTANCE_DELETED" {
					made.Add(1)
				}
			case 1:
				if call(http.MethodDelete, "/instance/race/1", nil, "INSTANCE_NOT_FOUND").Status == http.StatusOK {
					deleted.Add(1)
				}
			case 2:
				call(http.MethodPatch, "/instance/race/1", map[string]any{}, "INSTANCE_NOT_FOUND")
			default:
				call(http.MethodPatch, "/challenge/race", map[string]any{
					"additional": map[string]string{"round": fmt.Sprint(i, round)}, "updateMask": "additional",
					"updateStrategy": strategies[i%3],
				}, "")
			}
		}
	})
	answer, err := s.Call(t.Context(), http.MethodGet, "/instance/race/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	present := int64(0)
	if answer.Status == http.StatusOK {
		present = 1
	}
	if made.Load()-deleted.Load() != present {
		t.Errorf("%d were made and %d deleted, and %d is there", made.Load(), deleted.Load(), present)
	}
	if n := len(s.processes()); int64(n) != present {
		t.Errorf("%d run, want %d", n, present)
	}
	t.Logf("%d made, %d deleted", made.Load(), deleted.Load())
	s.Must(http.MethodDelete, "/challenge/race", nil)
}
