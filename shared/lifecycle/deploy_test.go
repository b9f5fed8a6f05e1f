package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

func TestDeploy(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	s.started()
	s.wantOnly("one")
	if s.announced.calls.Load() == 0 {
		t.Error("nothing was announced")
	}
}

func TestFailedDeploymentLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	s.machine.script(failUp(errMistake), nil)
	outcome, err := s.Settle(t.Context(), s.reserve())
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	if !outcome.Gone || !outcome.Destroyed {
		t.Errorf("outcome %+v, want gone and destroyed", outcome)
	}
	s.wantNothing()
	s.machine.script(nil, nil)
	s.started() // the source may try again
}

func TestFailedDeploymentThatCannotBeDestroyed(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	s.machine.script(failUp(errMistake), failDown(errMistake))
	key := s.reserve()
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	if got := s.records()[key.Identity]; got.State != ctf.Deleting || got.Failure == "" {
		t.Errorf("it is %s because %q, want deleting, and why", got.State, got.Failure)
	}
	s.machine.script(nil, nil)
	outcome, err := s.Settle(t.Context(), key)
	check(t, err)
	if !outcome.Destroyed {
		t.Errorf("outcome %+v, want destroyed", outcome)
	}
	s.wantNothing()
}

func TestManySettleAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.reserve()
	const many = 20
	results := make([]<-chan settled, many)
	for n := range results {
		results[n] = s.settling(t.Context(), key)
	}
	for _, r := range results {
		if got := within(t, r); got.err != nil || got.Instance.State != ctf.Ready {
			t.Errorf("%+v, want a ready instance", got)
		}
	}
	if ups, _ := s.machine.counts(); ups != 1 {
		t.Errorf("it was deployed %d times", ups)
	}
}

func TestDeletionCancelsTheDeployment(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	key := s.reserve()
	creating := s.settling(t.Context(), key)
	within(t, gate.reached)
	s.delete()
	deleting := s.settling(t.Context(), key)
	if got := within(t, creating); got.err != nil || !got.Gone {
		t.Errorf("creating: %+v, want gone", got)
	}
	if got := within(t, deleting); got.err != nil || !got.Gone {
		t.Errorf("deleting: %+v, want gone", got)
	}
	s.wantNothing()
}

func TestCallerLeavesAndTheWorkGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	ctx, leave := context.WithCancelCause(t.Context())
	left := errors.New("the caller left")
	creating := s.settling(ctx, s.reserve())
	within(t, gate.reached)
	leave(left)
	wantError(t, within(t, creating).err, left)
	close(gate.open)
	check(t, s.Drain(t.Context()))
	s.wantOnly("one")
}

func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	creating := s.settling(t.Context(), s.reserve())
	within(t, gate.reached)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	wantError(t, s.Drain(ctx), enough)
	close(gate.open)
	check(t, within(t, creating).err)
}

func TestDeadWorkerIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	var deaths atomic.Int64
	s.machine.script(func(context.Context, ctf.Program) error {
		if deaths.Add(1) <= 2 {
			return errDied
		}
		return nil
	}, nil)
	s.started()
	s.wantOnly("one")
}

func TestWorkerThatDiesForEverIsAFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	s.machine.script(failUp(errDied), nil)
	_, err := s.Settle(t.Context(), s.reserve())
	wantReason(t, err, ctf.ReasonUnavailable)
	if ups, _ := s.machine.counts(); ups > 5 {
		t.Errorf("it was tried %d times", ups)
	}
	s.wantNothing()
}

// The limit ends the work and nothing is recorded: whoever is next finishes it.
func TestLimit(t *testing.T) {
	t.Parallel()
	s := newSite(t, 300*time.Millisecond)
	gate := newGate()
	s.machine.script(gate.up, nil)
	key := s.reserve()
	_, err := s.Settle(t.Context(), key)
	wantError(t, err, context.DeadlineExceeded)
	if got := s.records()[key.Identity]; got.State != ctf.Pending {
		t.Errorf("it is %s, want pending", got.State)
	}
	close(gate.open)
	outcome, err := s.Settle(t.Context(), key)
	if err != nil || outcome.Instance.State != ctf.Ready {
		t.Errorf("the next one: %+v %v", outcome, err)
	}
}

// Who loses the lease stops at once, and then waits like anybody else to tell
// its caller how it ended.
func TestLostLease(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	key := s.reserve()
	creating := s.settling(t.Context(), key)
	within(t, gate.reached)
	other := s.steal(key)
	work, err := other.Load(t.Context())
	check(t, err)
	s.machine.script(nil, nil)
	result, err := s.machine.Up(t.Context(), work.Program(), work.Checkpoint, other.Journal(ctf.Pending))
	check(t, err)
	_, err = other.Deployed(t.Context(), work, result)
	check(t, err)
	other.Release()
	got := within(t, creating)
	if got.err != nil || got.Instance.State != ctf.Ready {
		t.Errorf("%+v, want the instance that the other deployed", got)
	}
	s.wantOnly("one")
}

func TestUnknownInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	outcome, err := s.Settle(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: ctf.NewIdentity()})
	check(t, err)
	if !outcome.Gone || outcome.Destroyed {
		t.Errorf("outcome %+v, want gone and not destroyed", outcome)
	}
}

func TestSettleAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	var ids []ctf.Identity
	for n := range 40 {
		r, err := s.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: s.challenge, Source: ctf.SourceID(fmt.Sprint(n))})
		check(t, err)
		ids = append(ids, r.Instance.Key.Identity)
	}
	bad := ids[7]
	s.machine.script(func(_ context.Context, p ctf.Program) error {
		if p.Instance.Identity == bad {
			return errMistake
		}
		return nil
	}, nil)
	wantReason(t, s.SettleAll(t.Context(), s.challenge, ids), ctf.ReasonDeploymentFailed)
	if n := len(s.machine.deployed()); n != len(ids)-1 {
		t.Errorf("%d are deployed, want %d", n, len(ids)-1)
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	key := s.reserve()
	creating := s.settling(t.Context(), key)
	within(t, gate.reached)
	_, err := s.Finish(t.Context(), key, 200*time.Millisecond)
	wantError(t, err, lifecycle.ErrHeld)
	close(gate.open)
	check(t, within(t, creating).err)
	outcome, err := s.Finish(t.Context(), key, patience)
	if err != nil || outcome.Instance.State != ctf.Ready {
		t.Errorf("%+v %v, want ready", outcome, err)
	}
}
