package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// The crash tests run this many operations, each by one of a few clients.
const (
	crashOperations = 200
	crashClients    = 8
)

// belief is what a client knows of its instance, which nobody else touches.
type belief int

const (
	absent belief = iota
	present
	unknown // the last call got no answer
)

// TestCrash kills Mayfly, or its workers, at random moments of creates,
// updates and deletes. After a restart and one reconcile the answers that
// clients got must hold, and records and processes must agree one to one.
func TestCrash(t *testing.T) {
	t.Run("of the process", func(t *testing.T) {
		crash(t, func(s *server) {
			s.Kill()
			s.Start()
		})
	})
	t.Run("of workers", func(t *testing.T) {
		crash(t, func(s *server) {
			for _, pid := range s.Workers() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		})
	})
}

func crash(t *testing.T, strike func(*server)) {
	seed := faults.Seed(t)
	keys := redis.NewKey()
	url := redistest.Start(t)
	s := newServer(t, "REDIS_URL="+url, "MAYFLY_KEYS="+keys, "LOG_LEVEL=warn")
	store := openStore(t, url, keys)
	s.Start()
	for n := range 2 {
		reference := pushService(t, s, fmt.Sprintf("service:%d", n))
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": challengeName(n), "scenario": reference, "timeout": "3600s"})
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	beliefs := make([][2]belief, crashClients)
	var clients sync.WaitGroup
	for c := range crashClients {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for done.Load() < crashOperations {
				if operate(ctx, s, random, c, &beliefs[c]) {
					done.Add(1)
					continue
				}
				<-time.After(10 * time.Millisecond) // nobody listens while Mayfly starts
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, crashClients))
	idle := make(chan struct{})
	go func() { clients.Wait(); close(idle) }()
	strikes := 0
	for running := true; running; {
		select {
		case <-idle:
			running = false
		case <-time.After(time.Duration(300+random.IntN(1500)) * time.Millisecond):
			strike(s)
			strikes++
		}
	}
	t.Logf("%d strikes", strikes)
	if strikes < 3 {
		t.Errorf("only %d strikes: the operations were over too soon to show anything", strikes)
	}

	s.Kill()
	s.Start()
	s.Tick("/reconcile")
	audit(t, s, store, beliefs)
}

func challengeName(n int) string { return fmt.Sprintf("challenge-%d", n) }

// operate has a client do one random thing to one of its two instances, and
// tells whether there was anybody to listen.
func operate(ctx context.Context, s *server, random *rand.Rand, client int, beliefs *[2]belief) bool {
	n := random.IntN(2)
	challenge, source := challengeName(n), fmt.Sprintf("team-%d", client)
	path := "/instance/" + challenge + "/" + source
	var answer reply
	var err error
	switch kind := random.IntN(10); {
	case kind < 5:
		answer, err = s.Call(ctx, http.MethodPost, "/instance", map[string]any{"challengeId": challenge, "sourceId": source})
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
		case err == nil && answer.Status == http.StatusOK:
			beliefs[n] = present
		case err == nil && answer.Status == http.StatusConflict && beliefs[n] == present:
		default: // also a conflict with what an earlier call began, which may fail yet
			beliefs[n] = unknown
		}
	case kind < 9:
		answer, err = s.Call(ctx, http.MethodDelete, path, nil)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
		case err == nil && answer.Status == http.StatusOK, err == nil && answer.Status == http.StatusNotFound:
			beliefs[n] = absent
		default:
			beliefs[n] = unknown
		}
	default:
		strategies := []string{"update_in_place", "blue_green", "recreate"}
		update := map[string]any{
			"additional": map[string]string{"round": fmt.Sprint(random.IntN(1000))}, "updateMask": "additional",
			"updateStrategy": strategies[random.IntN(len(strategies))],
		}
		// Instances stay, whatever comes of it.
		_, err = s.Call(ctx, http.MethodPatch, "/challenge/"+challenge, update)
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}

// audit compares what clients were told, what is recorded and what runs.
func audit(t *testing.T, s *server, store *redis.Store, beliefs [][2]belief) {
	t.Helper()
	recorded := map[ctf.Identity]bool{}
	for n := range 2 {
		key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(challengeName(n))}
		held := map[ctf.SourceID]int{}
		for entry, err := range store.All(t.Context(), key) {
			if err != nil {
				t.Fatal(err)
			}
			i := entry.Instance
			if i.State != ctf.Ready {
				t.Errorf("%s of %s is %s after reconcile: %s", i.Key.Identity, i.Source, i.State, i.Failure)
				continue
			}
			recorded[i.Key.Identity] = true
			held[i.Source]++
			connection, err := net.DialTimeout("tcp", i.ConnectionInfo, 5*time.Second)
			if err != nil {
				t.Errorf("%s of %s does not answer: %v", i.Key.Identity, i.Source, err)
				continue
			}
			_ = connection.Close()
		}
		for c, b := range beliefs {
			source := ctf.SourceID(fmt.Sprintf("team-%d", c))
			switch got := held[source]; {
			case got > 1:
				t.Errorf("%s has %d instances of %s", source, got, key.ID)
			case b[n] == present && got == 0:
				t.Errorf("%s lost its instance of %s", source, key.ID)
			case b[n] == absent && got == 1:
				t.Errorf("%s has an instance of %s that was deleted", source, key.ID)
			}
		}
	}
	running := s.processes()
	for identity, pids := range running {
		if !recorded[ctf.Identity(identity)] {
			t.Errorf("processes %v of %s run without a record", pids, identity)
		}
		if len(pids) > 1 {
			t.Errorf("%s runs %d times: %v", identity, len(pids), pids)
		}
	}
	for identity := range recorded {
		if !slices.Contains(keysOf(running), string(identity)) {
			t.Errorf("%s is recorded and does not run", identity)
		}
	}
}

func keysOf(m map[string][]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
