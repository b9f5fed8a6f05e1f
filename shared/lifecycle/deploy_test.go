package lifecycle_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
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

// A failure that can't be recorded is none yet: the instance is still pending.
func TestFailureThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newSiteOn(t, server.URL(), lifecycle.Bounds{}, time.Minute)
	s.machine.script(func(context.Context, ctf.Program) error {
		server.Kill()
		return errMistake
	}, nil)
	key := s.reserve()
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonUnavailable)
	server.Restart()
	if got := s.records()[key.Identity]; got.State != ctf.Pending {
		t.Errorf("it is %s, want pending", got.State)
	}
	s.machine.script(failUp(errMistake), nil)
	_, err = s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
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
	s := newSite(t, 3*time.Second) // which the last one is to keep
	gate := newGate()
	s.machine.script(gate.up, nil)
	key := s.reserve()
	_, err := s.Settle(t.Context(), key)
	wantError(t, err, context.DeadlineExceeded)
	if got := s.records()[key.Identity]; got.State != ctf.Pending {
		t.Errorf("it is %s, want pending", got.State)
	}
	if n := s.handedOn(); n != 1 {
		t.Errorf("it was handed on %d times, want once", n)
	}
	_, err = s.Finish(t.Context(), key, patience)
	wantError(t, err, context.DeadlineExceeded)
	if n := s.handedOn(); n != 1 {
		t.Error("what was handed on is handed on again")
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
	if got.err != nil || got.Instance.State != ctf.Ready || !got.Interrupted {
		t.Errorf("%+v, want the instance that the other deployed", got)
	}
	s.wantOnly("one")
}

// Who loses the lease again and again hands the work on: nobody may be at it.
func TestLostLeases(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(*site, ctf.InstanceKey) error{
		"one": func(s *site, key ctf.InstanceKey) error {
			_, err := s.Settle(s.t.Context(), key)
			return err
		},
		"all": func(s *site, key ctf.InstanceKey) error {
			return s.SettleAll(s.t.Context(), s.challenge, []ctf.Identity{key.Identity})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.reserve()
			s.machine.script(func(context.Context, ctf.Program) error {
				s.steal(key).Release()
				return nil
			}, nil)
			wantReason(t, settle(s, key), ctf.ReasonUnavailable)
			if n := s.handedOn(); n != 1 {
				t.Errorf("it was handed on %d times, want once", n)
			}
			s.machine.script(nil, nil)
			_, err := s.Settle(t.Context(), key)
			check(t, err)
			s.wantOnly("one")
		})
	}
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
	ids := s.reserveMany(40)
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

// The time of a call is over before most of its instances have had their turn:
// it returns, what it began goes on, and the rest is handed on in one piece.
func TestSettleAllOutOfTime(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	gate := newGate()
	s.machine.script(gate.up, nil)
	ids := s.reserveMany(40)
	ctx, end := context.WithCancelCause(t.Context())
	over := errors.New("its time is over")
	go func() {
		<-gate.reached
		end(over)
	}()
	wantError(t, s.SettleAll(ctx, s.challenge, ids), over)
	close(gate.open)
	check(t, s.Drain(t.Context()))
	if n := len(s.machine.deployed()); n == 0 || n > 16 {
		t.Errorf("%d were begun, want up to 16", n)
	}
	if n := s.handedOn(); n != 1 {
		t.Errorf("the rest was handed on %d times, want once", n)
	}
	check(t, s.SettleAll(t.Context(), s.challenge, ids))
	if n := len(s.machine.deployed()); n != len(ids) {
		t.Errorf("%d are deployed, want %d", n, len(ids))
	}
	if n := s.handedOn(); n != 1 {
		t.Error("what is done is handed on")
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

// Work that never comes to an end is begun only so often, whether its time runs
// out each time or its process dies.
func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin func(s *site) ctf.InstanceKey
		want  ctf.State
	}{
		"deployment": {(*site).reserve, ""},
		"in-place":   {func(s *site) ctf.InstanceKey { key := s.started(); s.update("two", ctf.InPlace); return key }, ctf.Ready},
		"blue-green": {func(s *site) ctf.InstanceKey { key := s.started(); s.update("two", ctf.BlueGreen); return key }, ctf.Ready},
		"recreate":   {func(s *site) ctf.InstanceKey { key := s.started(); s.update("two", ctf.Recreate); return key }, ctf.Failed},
	} {
		for ending, stuck := range map[string]func(context.Context, ctf.Program) error{
			"the time runs out": func(ctx context.Context, _ ctf.Program) error { <-ctx.Done(); return context.Cause(ctx) },
			"the worker dies":   failUp(errDied),
		} {
			t.Run(name+", "+ending, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, time.Minute)
				key := test.begin(s)
				s.machine.script(stuck, nil)
				hasty := lifecycle.New(s.store, s.machine, s.announced, lifecycle.Bounds{}, 300*time.Millisecond)
				var err error
				tries := 0
				for unsettled := true; unsettled; tries++ {
					if tries > 40 {
						t.Fatal("it is tried again and again")
					}
					_, err = hasty.Settle(t.Context(), key)
					i, there := s.records()[key.Identity]
					unsettled = there && (i.State == ctf.Pending || i.State == ctf.Updating)
				}
				if err == nil {
					t.Error("whoever made the last attempt is not told")
				}
				s.machine.script(nil, nil)
				for id := range s.records() { // what is given up is destroyed, and so is a half
					_, _ = s.Settle(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: id})
				}
				if i := s.records()[key.Identity]; i.State != test.want || test.want != "" && i.Failure == "" {
					t.Errorf("it is %q because %q, want %q", i.State, i.Failure, test.want)
				}
				// Whoever wants it again has all attempts before him.
				if test.want == ctf.Ready {
					s.update("two", ctf.InPlace)
					_, err := s.Settle(t.Context(), key)
					check(t, err)
					s.wantOnly("two")
				}
			})
		}
	}
}

// Whoever loses the lease again and again leaves the work to others, and tells
// his caller to ask again.
func TestLeaseLostAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.reserve()
	s.machine.script(func(ctx context.Context, _ ctf.Program) error {
		s.steal(key).Release()
		<-ctx.Done()
		return context.Cause(ctx)
	}, nil)
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonUnavailable)
	wantError(t, err, ctf.ErrLeaseLost)
	s.machine.script(nil, nil)
	if outcome, err := s.Settle(t.Context(), key); err != nil || outcome.Instance.State != ctf.Ready {
		t.Errorf("then it is %+v %v, want ready", outcome, err)
	}
}
