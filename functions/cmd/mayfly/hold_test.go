package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A hold keeps instances of the small service from being ready until it is
// released.
type hold struct{ command, file string }

func newHold(tb testing.TB) *hold {
	tb.Helper()
	dir := tb.TempDir()
	h := &hold{filepath.Join(dir, "wait"), filepath.Join(dir, "released")}
	program := build(tb, "testdata/service/program", "-ldflags=-s -w")
	script := fmt.Sprintf("#!/bin/sh\nuntil [ -e %s ]; do sleep 0.05; done\nexec %s\n", h.file, program)
	if err := os.WriteFile(h.command, []byte(script), 0o700); err != nil {
		tb.Fatal(err)
	}
	return h
}

// additional are the settings of what is held.
func (h *hold) additional() map[string]string {
	return map[string]string{"command": h.command, "patient": "yes"}
}

// holds tells whether as many instances wait to be released.
func (h *hold) holds(want int) error {
	held := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte("/bin/sh\x00"+h.command)) {
			held++
		}
	}
	if held != want {
		return fmt.Errorf("%d instances are held, want %d", held, want)
	}
	return nil
}

func (h *hold) release(tb testing.TB) {
	tb.Helper()
	if err := os.WriteFile(h.file, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// TestFullHouse: while all that may is being deployed, who needs a deployment is
// told to come again and leaves no trace, and nobody else waits.
func TestFullHouse(t *testing.T) {
	keys := redis.NewKey()
	url := redistest.Start(t)
	s := newServer(t, append(quiet, "REDIS_URL="+url, "MAYFLY_KEYS="+keys, "WORKERS=2", "DEPLOYMENTS=1", "CREATE_WAIT=1s")...)
	store := openStore(t, url, keys)
	s.Start()
	reference := pushService(t, s, "service:1")
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "plain", "scenario": reference, "timeout": "3600s"})
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "pooled", "scenario": reference, "min": 2})
	eventually(t, "the pool is filled", func() error {
		if n := len(s.processes()); n != 2 {
			return fmt.Errorf("%d instances run", n)
		}
		return nil
	})
	create := func(key, challenge, source string, additional map[string]string) reply {
		answer, err := s.callWith(context.WithoutCancel(t.Context()), http.Header{"Idempotency-Key": {key}}, http.MethodPost, "/instance",
			map[string]any{"challengeId": challenge, "sourceId": source, "additional": additional})
		if err != nil {
			t.Error(err)
		}
		return answer
	}
	want := func(what string, answer reply, status int) {
		t.Helper()
		if answer.Status != status || (status == http.StatusTooManyRequests) != (answer.After != "") {
			t.Errorf("%s: %d, again after %q: %s", what, answer.Status, answer.After, answer.Raw)
		}
	}
	insist := func(key, source string, additional map[string]string) (answer reply) { // until the pool's turns are over
		for answer = create(key, "plain", source, additional); answer.Status == http.StatusTooManyRequests; {
			answer = create(key, "plain", source, additional)
		}
		return answer
	}
	want("while there is room", insist("first", "1", nil), http.StatusOK)
	h := newHold(t)
	held := make(chan reply, 1)
	go func() { held <- insist("held", "held", h.additional()) }()
	eventually(t, "a create is held", func() error { return h.holds(1) })

	want("a create", create("new", "plain", "2", nil), http.StatusTooManyRequests)
	want("a claim with settings", create("new", "pooled", "2", map[string]string{"round": "2"}), http.StatusTooManyRequests)
	want("a claim", create("new", "pooled", "1", nil), http.StatusOK)
	want("a repeated create", create("first", "plain", "1", nil), http.StatusOK)
	want("another create", create("second", "plain", "1", nil), http.StatusConflict)
	want("a renewal", s.try(t, http.MethodPatch, "/instance/plain/1", map[string]any{}), http.StatusOK)
	want("a deletion", s.try(t, http.MethodDelete, "/instance/plain/1", nil), http.StatusOK)
	select {
	case answer := <-held:
		t.Fatalf("the room was not full: %d %s", answer.Status, answer.Raw)
	default:
	}
	for _, challenge := range []ctf.ChallengeID{"plain", "pooled"} {
		for entry, err := range store.All(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: challenge}) {
			if err != nil || entry.Instance.Source == "2" {
				t.Errorf("on record is %+v, %v", entry.Instance, err)
			}
		}
	}
	h.release(t)
	select {
	case answer := <-held:
		want("what was held", answer, http.StatusOK)
	case <-time.After(patience):
		t.Fatal("what was held does not end")
	}
	s.Must(http.MethodDelete, "/challenge/plain", nil)
	s.Must(http.MethodDelete, "/challenge/pooled", nil)
	wantNothingRunning(t, s)
}
