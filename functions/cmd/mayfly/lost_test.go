package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLost ends a program behind Mayfly's back. One reconcile does what is set,
// and touches neither an instance that runs nor one that is made of nothing.
func TestLost(t *testing.T) {
	for setting, want := range map[string]struct {
		env     []string
		status  int
		running bool
	}{
		"by default": {nil, http.StatusOK, true},
		"repair":     {[]string{"LOST=repair"}, http.StatusOK, true},
		"end":        {[]string{"LOST=end"}, http.StatusNotFound, false},
		"show":       {[]string{"LOST=show"}, http.StatusOK, false},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, append(want.env, quiet...)...)
			s.Start()
			service := pushService(t, s, "service:1")
			plain := pushTo(t, s.Registry, "plain:1", map[string][]byte{
				"Pulumi.yaml": []byte("name: plain\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
				"main":        read(t, build(t, "../../../shared/apitest/testdata/programs/plain", "-ldflags=-s -w")),
			})
			before := map[string]reply{}
			create := func(id, reference string) {
				s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": reference, "timeout": "3600s"})
				before[id] = s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": "1"})
			}
			create("lost", service)
			identity := s.endPrograms(t)
			create("kept", service)
			create("plain", plain)
			s.Tick("/reconcile")

			after := s.try(t, http.MethodGet, "/instance/lost/1", nil)
			if after.Status != want.status {
				t.Errorf("it answers %d, want %d: %s", after.Status, want.status, after.Raw)
			}
			if after.Status == http.StatusOK {
				if d := cmp.Diff(terms(t, before["lost"]), terms(t, after)); d != "" {
					t.Errorf("it is another one: %s", d)
				}
			}
			if want.running {
				answers(t, after.ConnectionInfo)
			}
			if _, runs := s.processes()[identity]; runs != want.running {
				t.Errorf("%s runs: %v, want %v", identity, runs, want.running)
			}
			for _, id := range []string{"kept", "plain"} {
				if d := cmp.Diff(before[id].Raw, s.Must(http.MethodGet, "/instance/"+id+"/1", nil).Raw); d != "" {
					t.Errorf("%s: %s", id, d)
				}
			}
			answers(t, before["kept"].ConnectionInfo)
			eventually(t, "the log tells of one loss", func() error {
				if got := strings.Count(s.log.String(), "an instance is lost"); got != 1 {
					return fmt.Errorf("it tells of %d:\n%s", got, s.log)
				}
				return nil
			})
		})
	}
}

// endPrograms kills what the only instance runs, and returns whose it was.
func (s *server) endPrograms(t *testing.T) (identity string) {
	t.Helper()
	for of, pids := range s.processes() {
		identity = of
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the programs end", func() error {
		if len(s.processes()) > 0 {
			return errors.New("they run")
		}
		return nil
	})
	return identity
}

// terms are an instance without the address, which may be another one.
func terms(t *testing.T, r reply) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(r.Raw), &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "connectionInfo")
	return all
}
