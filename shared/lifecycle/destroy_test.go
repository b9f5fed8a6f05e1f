package lifecycle_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func TestDestroy(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.delete()
	outcome, err := s.Settle(t.Context(), key)
	check(t, err)
	if !outcome.Gone || !outcome.Destroyed {
		t.Errorf("outcome %+v, want gone and destroyed", outcome)
	}
	s.wantNothing()
}

func TestFailedDestroyIsRetriedByTheNext(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.delete()
	s.machine.script(nil, failDown(errMistake))
	outcome, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	if outcome.Gone || outcome.Instance.State != ctf.Deleting {
		t.Errorf("outcome %+v, want deleting", outcome)
	}
	if _, downs := s.machine.counts(); downs != 1 {
		t.Errorf("it was tried %d times at once", downs)
	}
	_, err = s.held()
	wantReason(t, err, ctf.ReasonInstanceNotFound)

	s.machine.script(nil, nil)
	_, err = s.Settle(t.Context(), key)
	check(t, err)
	s.wantNothing()
}

func TestWorkerDiesWhileItDestroys(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.delete()
	var deaths atomic.Int64
	s.machine.script(nil, func(context.Context, ctf.Identity) error {
		if deaths.Add(1) <= 2 {
			return errDied
		}
		return nil
	})
	_, err := s.Settle(t.Context(), key)
	check(t, err)
	s.wantNothing()
}

// A thief of the lease destroyed the instance; who lost it finds it gone.
func TestLostLeaseOfSomethingGone(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.delete()
	gate := newGate()
	s.machine.script(nil, gate.down)
	deleting := s.settling(t.Context(), key)
	within(t, gate.reached)
	other := s.steal(key)
	work, err := other.Load(t.Context())
	check(t, err)
	s.machine.script(nil, nil)
	check(t, s.machine.Down(t.Context(), key, work.Checkpoint, other.Journal(ctf.Deleting)))
	check(t, other.Forget(t.Context()))
	other.Release()
	if got := within(t, deleting); got.err != nil || !got.Gone || got.Destroyed {
		t.Errorf("%+v, want gone, and not by us", got)
	}
	s.wantNothing()
}

func TestManyDestroyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.delete()
	results := make([]<-chan settled, 20)
	for n := range results {
		results[n] = s.settling(t.Context(), key)
	}
	destroyed := 0
	for _, r := range results {
		got := within(t, r)
		check(t, got.err)
		if got.Destroyed {
			destroyed++
		}
	}
	if destroyed != 1 {
		t.Errorf("%d destroyed it, want 1", destroyed)
	}
	s.wantNothing()
}
