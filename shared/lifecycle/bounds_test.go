package lifecycle_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// newBoundedSite is a site that deploys one instance at once.
func newBoundedSite(t *testing.T) *site {
	t.Helper()
	return newSiteOn(t, redistest.Start(t), lifecycle.Bounds{Deployments: 1, Destructions: 1, Queue: 10, Wait: time.Minute}, time.Minute)
}

// turn is one that is free.
func (s *site) turn() *lifecycle.Turn {
	s.t.Helper()
	turn, ok := s.TryTurn(s.challenge)
	if !ok {
		s.t.Fatal("no turn is free")
	}
	return turn
}

// What waits for its turn to be deployed is destroyed without one.
func TestDeletionDoesNotWaitForATurn(t *testing.T) {
	t.Parallel()
	s := newBoundedSite(t)
	gate := newGate()
	s.machine.script(gate.up, nil)
	first := s.settling(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: s.reserveMany(1)[0]})
	within(t, gate.reached)
	key := s.reserve()
	waiting := s.settling(t.Context(), key)
	eventually(t, "it is worked on", func() bool {
		entries, err := ctf.Collect(s.store.All(t.Context(), s.challenge))
		check(t, err)
		for _, e := range entries {
			if e.Instance.Key == key && e.Leased {
				return true
			}
		}
		return false
	})
	s.delete()
	deleting := s.settling(t.Context(), key)
	for _, c := range []<-chan settled{waiting, deleting} {
		if got := within(t, c); got.err != nil || !got.Gone {
			t.Errorf("%+v, want gone", got)
		}
	}
	if ups, _ := s.machine.counts(); ups != 1 {
		t.Errorf("%d were deployed, want the first alone", ups)
	}
	close(gate.open)
	check(t, within(t, first).err)
}

// Updates, validations and creates take turns, and all of many come to theirs.
func TestManyTakeTurns(t *testing.T) {
	t.Parallel()
	s := newBoundedSite(t)
	var now, most atomic.Int64
	s.machine.script(func(context.Context, ctf.Program) error {
		n := now.Add(1)
		if n > most.Load() {
			most.Store(n) // two at once would both be above one
		}
		now.Add(-1)
		return nil
	}, nil)
	ids := s.reserveMany(40)
	check(t, s.SettleAll(t.Context(), s.challenge, ids))
	s.update("two", ctf.BlueGreen)
	check(t, s.SettleAll(t.Context(), s.challenge, ids))
	if got := most.Load(); got != 1 {
		t.Errorf("%d were deployed at once", got)
	}
	check(t, s.Validate(t.Context(), s.challenge, ctf.Scenario{}, nil))
	turn, ok := s.TryTurn(s.challenge)
	if !ok {
		t.Fatal("a turn was not given back")
	}
	turn.End()
}

// A turn that came with the work is used for it, and given back with it.
func TestDeployInATurn(t *testing.T) {
	t.Parallel()
	s := newBoundedSite(t)
	turn := s.turn()
	outcome, err := s.Deploy(t.Context(), turn, s.reserve())
	if err != nil || outcome.Instance.State != ctf.Ready {
		t.Fatalf("%+v %v", outcome, err)
	}
	check(t, s.Drain(t.Context()))
	if _, ok := s.TryTurn(s.challenge); !ok {
		t.Error("the turn is not given back")
	}
}

// Who has a turn and no lease gives it to who has the lease and no turn.
func TestTurnIsNotKeptFromTheHolder(t *testing.T) {
	t.Parallel()
	s := newBoundedSite(t)
	turn := s.turn()
	key := s.reserve()
	holding := s.settling(t.Context(), key)
	eventually(t, "somebody holds the lease", func() bool {
		entries, err := ctf.Collect(s.store.All(t.Context(), s.challenge))
		check(t, err)
		return len(entries) == 1 && entries[0].Leased
	})
	outcome, err := s.Deploy(t.Context(), turn, key)
	if err != nil || outcome.Instance.State != ctf.Ready {
		t.Errorf("%+v %v", outcome, err)
	}
	check(t, within(t, holding).err)
}

// A waiting is called before replicas are waited for the first time.
type waiting struct {
	goredis.Hook
	once sync.Once
	call func()
}

func (*waiting) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (*waiting) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (w *waiting) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		if commands[len(commands)-1].Name() == "wait" {
			w.once.Do(w.call)
		}
		return next(ctx, commands)
	}
}

// Who has the lease keeps the turn, however long replicas take.
func TestTurnOutlastsReplicas(t *testing.T) {
	t.Parallel()
	primary := redistest.New(t)
	primary.Replica()
	bounds := lifecycle.Bounds{Deployments: 1, Destructions: 1, Queue: 10, Wait: time.Minute}
	s := newSiteOn(t, primary.URL(), bounds, time.Minute)
	var l *lifecycle.Lifecycle
	store, err := redis.Open(t.Context(), redis.Options{URL: s.url, Keys: s.keys, Wait: 1, Hook: &waiting{call: func() {
		for late := time.After(1500 * time.Millisecond); ; { // more than a turn is kept for
			if turn, free := l.TryTurn(s.challenge); free {
				t.Error("the turn is lost")
				turn.End()
				return
			}
			select {
			case <-late:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}}})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	l = lifecycle.New(store, s.machine, s.announced, bounds, time.Minute)
	turn, ok := l.TryTurn(s.challenge)
	if !ok {
		t.Fatal("no turn is free")
	}
	outcome, err := l.Deploy(t.Context(), turn, s.reserve())
	if err != nil || outcome.Instance.State != ctf.Ready {
		t.Errorf("%+v %v", outcome, err)
	}
	check(t, l.Drain(t.Context()))
}

// Work whose turn was given up takes another one.
func TestDeployAfterItsTurn(t *testing.T) {
	t.Parallel()
	s := newBoundedSite(t)
	ended := s.turn()
	ended.End()
	s.machine.script(func(context.Context, ctf.Program) error {
		if _, free := s.TryTurn(s.challenge); free {
			t.Error("it is deployed without a turn")
		}
		return nil
	}, nil)
	_, err := s.Deploy(t.Context(), ended, s.reserve())
	check(t, err)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	late := time.After(patience)
	for !condition() {
		select {
		case <-late:
			t.Fatalf("in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
