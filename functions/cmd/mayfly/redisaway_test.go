package main_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestRedisAway takes Redis away, in the middle of a deployment too. Every verb
// says so, and all works again when it is back.
func TestRedisAway(t *testing.T) {
	for name, away := range map[string]struct{ leave, comeBack func(*redistest.Server) }{
		"killed": {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"hangs":  {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := redistest.New(t, "--appendonly", "yes", "--appendfsync", "always")
			keys := redis.NewKey()
			s := newServer(t, append(quiet, "REDIS_URL="+database.URL(), "MAYFLY_KEYS="+keys)...)
			s.Start()
			reference := pushMisbehaving(t, s, "misbehaving:1")
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference, "timeout": "3600s"})
			address := s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "1"}).ConnectionInfo
			slow := s.createSlowly(t)

			away.leave(database)
			wantUnhealthy(t, s)
			atOnce(len(everyVerb), func(i int) {
				verb := everyVerb[i]
				body := map[string]any{"id": "2", "scenario": reference, "challengeId": "1", "sourceId": "3", "updateMask": "timeout"}
				answer, err := s.Call(t.Context(), verb.method, verb.path, body)
				if err != nil || answer.Status != http.StatusServiceUnavailable || !strings.Contains(answer.Raw, `"UNAVAILABLE"`) {
					t.Errorf("%s %s: %v %d %s, want 503 UNAVAILABLE", verb.method, verb.path, err, answer.Status, answer.Raw)
				}
			})
			answers(t, address)

			away.comeBack(database)
			eventually(t, "it is healthy", func() error { return health(t, s, http.StatusOK) })
			if got := <-slow; got.err == nil && got.Status != http.StatusOK && got.Status != http.StatusServiceUnavailable {
				t.Errorf("the deployment ended with %d %s", got.Status, got.Raw)
			}
			s.Tick("/reconcile")
			agree(t, s, openStore(t, database.URL(), keys), "1")
			if got := s.Must(http.MethodGet, "/instance/1/1", nil).ConnectionInfo; got != address {
				t.Errorf("the instance is at %s, was at %s", got, address)
			}
			s.Must(http.MethodDelete, "/challenge/1", nil)
			wantNothingRunning(t, s)
		})
	}
}

var everyVerb = []struct{ method, path string }{
	{http.MethodPost, "/challenge"}, {http.MethodGet, "/challenge/1"}, {http.MethodGet, "/challenge"},
	{http.MethodPatch, "/challenge/1"}, {http.MethodDelete, "/challenge/1"},
	{http.MethodPost, "/instance"}, {http.MethodGet, "/instance/1/1"}, {http.MethodGet, "/instance?sourceId=1"},
	{http.MethodPatch, "/instance/1/1"}, {http.MethodDelete, "/instance/1/1"},
}

func wantUnhealthy(t *testing.T, s *server) {
	t.Helper()
	if err := health(t, s, http.StatusServiceUnavailable); err != nil {
		t.Error(err)
	}
}

func health(t *testing.T, s *server, want int) error {
	t.Helper()
	response, err := http.Get(s.URL + "/healthcheck")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != want {
		return fmt.Errorf("the health check answers %d, want %d", response.StatusCode, want)
	}
	return nil
}

type lateReply struct {
	reply
	err error
}

// createSlowly begins to create an instance for the source slow, and returns
// when its process runs and its program goes on for three seconds.
func (s *server) createSlowly(t *testing.T) <-chan lateReply {
	t.Helper()
	running := len(s.processes())
	late := make(chan lateReply, 1)
	go func() {
		answer, err := s.Call(context.WithoutCancel(t.Context()), http.MethodPost, "/instance", map[string]any{
			"challengeId": "1", "sourceId": "slow", "additional": map[string]string{"up": "slow"},
		})
		late <- lateReply{answer, err}
	}()
	eventually(t, "the process runs", func() error {
		if n := len(s.processes()); n <= running {
			return fmt.Errorf("%d processes run", n)
		}
		return nil
	})
	return late
}

// agree fails the test unless the records of a challenge and the processes that
// run are the same instances.
func agree(t *testing.T, s *server, store *redis.Store, id ctf.ChallengeID) {
	t.Helper()
	running := s.processes()
	for entry, err := range store.All(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		i := entry.Instance
		if i.State != ctf.Ready || len(running[string(i.Key.Identity)]) != 1 {
			t.Errorf("the instance of %s is %s, and %d processes run: %s", i.Source, i.State, len(running[string(i.Key.Identity)]), i.Failure)
		}
		delete(running, string(i.Key.Identity))
	}
	if len(running) > 0 {
		t.Errorf("these run without a record: %v", running)
	}
}

// TestRedisFull has Redis refuse to grow, in the middle of a deployment too.
// Nothing half-done stays after a reconcile.
func TestRedisFull(t *testing.T) {
	url, keys := redistest.Start(t), redis.NewKey()
	s := newServer(t, append(quiet, "REDIS_URL="+url, "MAYFLY_KEYS="+keys)...)
	s.Start()
	reference := pushMisbehaving(t, s, "misbehaving:1")
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference})
	client := openRedis(t, url)
	limit := func(bytes string) {
		if err := client.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	slow := s.createSlowly(t)
	before := keysIn(t, url)["mayfly:challenges:default"]
	limit("1")
	for path, body := range map[string]map[string]any{
		"/challenge": {"id": "2", "scenario": reference},
		"/instance":  {"challengeId": "1", "sourceId": "2"},
	} {
		wantFailure(t, s.try(t, http.MethodPost, path, body), http.StatusServiceUnavailable, "UNAVAILABLE", "")
	}
	if after := keysIn(t, url)["mayfly:challenges:default"]; after != before {
		t.Error("the list of challenges changed")
	}
	if got := <-slow; got.err != nil || got.Status != http.StatusOK && got.Reason() != "UNAVAILABLE" {
		t.Errorf("the deployment ended with %v %d %s", got.err, got.Status, got.Raw)
	}
	limit("0")
	s.Tick("/reconcile")
	agree(t, s, openStore(t, url, keys), "1")
	s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"})
	s.Must(http.MethodDelete, "/challenge/1", nil)
	wantNothingRunning(t, s)
}
