package main_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const (
	// quietCreates are for a challenge that few want.
	quietCreates = rushCreates / 20
	// rushQueue may wait: more than twice as many as are for that one.
	rushQueue   = rushCreates / 5
	rushWorkers = 6
	// rushMemory is more than a server and its workers need for them, in bytes; a
	// build with the race detector needs several times as much.
	rushMemory = 640 << 20
)

// TestRush has far more creates come at once than can be served. Each is
// answered, with an instance or with when to come again; who does so gets one in
// the end. Nobody who wants the quiet challenge is turned away because of those
// who want the other one.
func TestRush(t *testing.T) {
	keys := redis.NewKey()
	url := redistest.Start(t)
	s := newServer(t, append(quiet, "REDIS_URL="+url, "MAYFLY_KEYS="+keys,
		"WORKERS="+strconv.Itoa(rushWorkers), "CREATE_QUEUE="+strconv.Itoa(rushQueue), "CREATE_WAIT=4m")...)
	store := openStore(t, url, keys)
	s.Start()
	reference := pushTo(t, s.Registry, "bare:1", bareFiles(t))
	for _, id := range []string{"crowded", "quiet"} {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": reference})
	}
	var refused atomic.Int64
	atOnce(rushCreates, func(n int) {
		if n < quietCreates {
			if tries := createPatiently(t, s, "quiet", n); tries > 1 {
				t.Errorf("source %d of the quiet challenge was turned away", n)
			}
			return
		}
		refused.Add(int64(createPatiently(t, s, "crowded", n) - 1))
	})
	if refused.Load() == 0 {
		t.Error("nobody was turned away: there was no rush")
	}
	workers := s.Workers()
	if len(workers) > rushWorkers {
		t.Errorf("%d workers run, want %d at most", len(workers), rushWorkers)
	}
	used := memory(s.cmd.Process.Pid, "VmHWM")
	for _, pid := range workers {
		used += memory(pid, "VmHWM")
	}
	t.Logf("%d were told to come again; %s of memory at most", refused.Load(), megabytes(used))
	if used > rushMemory && raceFlag != "-race" {
		t.Errorf("it used %s", megabytes(used))
	}
	wantAll(t, store, "crowded", rushCreates-quietCreates)
	wantAll(t, store, "quiet", quietCreates)
	for _, id := range []string{"crowded", "quiet"} {
		s.Must(http.MethodDelete, "/challenge/"+id, nil)
		wantAll(t, store, id, 0)
	}
	wantNothingRunning(t, s)
}

// createPatiently creates an instance and comes again as it is told. It returns
// how often it asked.
func createPatiently(t *testing.T, s *server, challenge string, n int) (tries int) {
	for tries = 1; ; tries++ {
		answer, err := s.Call(t.Context(), http.MethodPost, "/instance", map[string]any{"challengeId": challenge, "sourceId": fmt.Sprint(n)})
		if err == nil && answer.Status == http.StatusOK {
			return tries
		}
		after, parsed := strconv.Atoi(answer.After)
		if err != nil || parsed != nil || answer.Status != http.StatusTooManyRequests || answer.Reason() != string(ctf.ReasonExhausted) {
			t.Errorf("source %d: %v %d, again after %q: %s", n, err, answer.Status, answer.After, answer.Raw)
			return tries
		}
		<-time.After(time.Duration(after) * time.Second)
	}
}

// wantAll checks that there are as many instances, all ready and each of
// another source.
func wantAll(t *testing.T, store *redis.Store, challenge string, want int) {
	t.Helper()
	sources := map[ctf.SourceID]bool{}
	for entry, err := range store.All(context.WithoutCancel(t.Context()), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(challenge)}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Instance.State != ctf.Ready || sources[entry.Instance.Source] {
			t.Errorf("%s of %q is %s", entry.Instance.Key.Identity, entry.Instance.Source, entry.Instance.State)
		}
		sources[entry.Instance.Source] = true
	}
	if len(sources) != want {
		t.Errorf("%d sources have an instance of %s, want %d", len(sources), challenge, want)
	}
}
