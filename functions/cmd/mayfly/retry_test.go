package main_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// TestRetryAfterAKill kills Mayfly after each command of a create to Redis: before
// it is recorded, while it is deployed, and when all but the answer is done. The
// same request with the same key then gets one instance, however often it comes,
// and though nothing but the request goes on with it.
func TestRetryAfterAKill(t *testing.T) {
	keys := redis.NewKey()
	url := redistest.Start(t)
	wire := newLink(t, strings.TrimPrefix(url, "redis://"))
	images, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := httptest.NewServer(images)
	t.Cleanup(at.Close)
	s := newServer(t, "ADDRESS=127.0.0.1", "LOG_LEVEL=warn", "OCI_INSECURE=true", "REDIS_URL=redis://"+wire.address, "MAYFLY_KEYS="+keys)
	s.command = "serve" // without ticks
	wire.kill = s.Kill
	s.Start()
	reference := pushTo(t, strings.TrimPrefix(at.URL, "http://"), "bare:1", bareFiles(t))
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference, "timeout": "3600s"})
	s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "warm"})

	create := func(source int) (reply, error) {
		header := http.Header{"Idempotency-Key": {fmt.Sprint("key ", source)}}
		return s.callWith(t.Context(), header, http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": fmt.Sprint(source)})
	}
	var told []string // when the instance of a source began, if its create was answered
	for undisturbed := false; !undisturbed; {
		killed := wire.killAt(len(told) + 1)
		answer, err := create(len(told))
		select {
		case <-killed:
			s.Start()
		case <-time.After(patience / 10): // it has no more commands
			wire.killAt(0)
			undisturbed = true
		}
		if undisturbed && (err != nil || answer.Status != http.StatusOK) {
			t.Fatalf("undisturbed: %v %d %s", err, answer.Status, answer.Raw)
		}
		told = append(told, answer.Since)
	}
	t.Logf("killed %d times", len(told)-1)
	for range 2 {
		atOnce(len(told), func(source int) {
			answer, err := create(source)
			if err != nil || answer.Status != http.StatusOK || told[source] != "" && told[source] != answer.Since {
				t.Errorf("source %d was told of %q: %v %d %s", source, told[source], err, answer.Status, answer.Raw)
			}
			told[source] = answer.Since
		})
	}
	wantAll(t, openStore(t, url, keys), "1", len(told)+1)
	s.Must(http.MethodDelete, "/challenge/1", nil)
}

// TestRetryAfterTheCallerLeft: who breaks a create off and repeats it gets what
// the first one makes.
func TestRetryAfterTheCallerLeft(t *testing.T) {
	s := newServer(t, quiet...)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushMisbehaving(t, s, "misbehaving:1")})
	create := func(ctx context.Context) (reply, error) {
		return s.callWith(ctx, http.Header{"Idempotency-Key": {"once"}}, http.MethodPost, "/instance", map[string]any{
			"challengeId": "1", "sourceId": "2", "additional": map[string]string{"up": "slow"},
		})
	}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := create(ctx)
		ended <- err
	}()
	eventually(t, "the process runs", func() error {
		if len(s.processes()) == 0 {
			return errors.New("none does")
		}
		return nil
	})
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("the create was over before: %v", err)
	}
	before := s.processes()
	answer, err := create(t.Context())
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("%v %d %s", err, answer.Status, answer.Raw)
	}
	answers(t, answer.ConnectionInfo)
	if d := cmp.Diff(before, s.processes()); d != "" {
		t.Errorf("something else runs now: %s", d)
	}
	s.Must(http.MethodDelete, "/challenge/1", nil)
	wantNothingRunning(t, s)
}
