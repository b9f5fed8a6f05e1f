package lifecycle_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func strategies() []ctf.Strategy { return []ctf.Strategy{ctf.InPlace, ctf.BlueGreen, ctf.Recreate} }

func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, strategy := range strategies() {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			s.update("two", strategy)
			_, err := s.Settle(t.Context(), key)
			check(t, err)
			now := s.wantOnly("two")
			if kept := now.Key == key; kept == (strategy == ctf.BlueGreen) {
				t.Errorf("it was %s and is %s", key.Identity, now.Key.Identity)
			}
		})
	}
}

// A failed update leaves the old generation running; the next update, which
// changes nothing, tries again.
func TestFailedUpdate(t *testing.T) {
	t.Parallel()
	for _, strategy := range []ctf.Strategy{ctf.InPlace, ctf.BlueGreen} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			s.machine.script(failUp(errMistake), nil)
			s.update("two", strategy)
			outcome, err := s.Settle(t.Context(), key)
			wantReason(t, err, ctf.ReasonDeploymentFailed)
			if i := outcome.Instance; i.State != ctf.Ready || i.ConnectionInfo != "one" || i.Failure == "" {
				t.Errorf("it is %s with %q because %q", i.State, i.ConnectionInfo, i.Failure)
			}
			if n := len(s.records()); n != 1 {
				t.Errorf("%d records, want 1", n)
			}
			if ups, _ := s.machine.counts(); ups != 2 {
				t.Errorf("%d deployments, want 2", ups)
			}
			s.machine.script(nil, nil)
			s.update("two", strategy)
			if _, err = s.Settle(t.Context(), key); err != nil {
				t.Error(err)
			}
			s.wantOnly("two")
		})
	}
}

// A recreate has left nothing of an instance and failed, and so does the update that
// overtook it: it is not what it was.
func TestUpdateOfNothingFails(t *testing.T) {
	t.Parallel()
	for _, strategy := range []ctf.Strategy{ctf.InPlace, ctf.BlueGreen} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			gate := newGate()
			s.machine.script(func(ctx context.Context, _ ctf.Program) error { return cmp.Or(gate.wait(ctx), errMistake) }, nil)
			s.update("two", ctf.Recreate)
			working := s.settling(t.Context(), key)
			within(t, gate.reached)
			s.update("three", strategy)
			close(gate.open)
			got := within(t, working)
			wantReason(t, got.err, ctf.ReasonDeploymentFailed)
			if s.records()[key.Identity].State != ctf.Failed || len(s.machine.deployed()) > 0 {
				t.Errorf("it is %s, and %v are deployed", got.Instance.State, s.machine.deployed())
			}
			if _, err := s.held(); ctf.ReasonOf(err) != ctf.ReasonInstanceNotFound {
				t.Errorf("its source sees it: %v", err)
			}
		})
	}
}

// Whoever was at a recreate died when it had destroyed all, before that was on record:
// the update that comes next and fails leaves nothing that could be ready.
func TestUpdateAfterARecreateThatDied(t *testing.T) {
	t.Parallel()
	for _, strategy := range []ctf.Strategy{ctf.InPlace, ctf.BlueGreen} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			s.update("two", ctf.Recreate)
			s.machine.script(nil, func(_ context.Context, id ctf.Identity) error {
				s.machine.forget(id)
				return errDied
			})
			_, err := s.Settle(t.Context(), key)
			wantReason(t, err, ctf.ReasonUnavailable)
			s.machine.script(failUp(errMistake), nil)
			s.update("three", strategy)
			_, err = s.Settle(t.Context(), key)
			wantReason(t, err, ctf.ReasonDeploymentFailed)
			if i := s.records()[key.Identity]; i.State != ctf.Failed || len(s.machine.deployed()) > 0 {
				t.Errorf("it is %s, and %v are deployed", i.State, s.machine.deployed())
			}
			_, err = s.held()
			wantReason(t, err, ctf.ReasonInstanceNotFound)
		})
	}
}

// An update that has begun and can't go on, through no fault of its scenario, is
// not given up, however long that lasts: what is deployed is neither the old one nor
// the new one.
func TestUpdateThatCannotGoOn(t *testing.T) {
	t.Parallel()
	away := ctf.RegistryUnreachable("registry/two", errors.New("it is away"))
	for _, strategy := range strategies() {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			begun := strategy
			if strategy == ctf.BlueGreen {
				begun = ctf.InPlace // it leaves what it replaces as it is, so another one begins
			}
			s.update("two", begun)
			s.machine.script(failUp(errDied), nil)
			_, err := s.Settle(t.Context(), key)
			wantReason(t, err, ctf.ReasonUnavailable)
			s.update("two", strategy)
			s.machine.script(failUp(away), nil)
			for range 20 { // more than an update that ends its process is begun
				outcome, err := s.Settle(t.Context(), key)
				wantReason(t, err, ctf.ReasonOCIInteraction)
				if outcome.Instance.State != ctf.Updating {
					t.Fatalf("it is %s", outcome.Instance.State)
				}
			}
			s.machine.script(nil, nil)
			_, err = s.Settle(t.Context(), key)
			check(t, err)
			if now := s.wantOnly("two"); now.Key != key && strategy != ctf.BlueGreen {
				t.Errorf("its source has %s now", now.Key.Identity)
			}
		})
	}
}

// The registry is away when nothing is left of what a recreate makes anew.
func TestRecreateThatCannotGoOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.update("two", ctf.Recreate)
	s.machine.script(failUp(ctf.RegistryUnreachable("registry/two", errors.New("it is away"))), nil)
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonOCIInteraction)
	s.machine.script(nil, nil)
	_, err = s.Settle(t.Context(), key)
	check(t, err)
	if now := s.wantOnly("two"); now.Key != key {
		t.Errorf("its source has %s now", now.Key.Identity)
	}
}

// A new half that can be neither deployed nor destroyed is left to expire. The
// update has failed, and is not tried again and again with one more half each.
func TestFailedReplacementThatCannotBeDestroyed(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.machine.script(failUp(errMistake), failDown(errMistake))
	s.update("two", ctf.BlueGreen)
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	if i, err := s.held(); err != nil || i.State != ctf.Ready || i.Key != key {
		t.Errorf("the old one is %s: %v", i.State, err)
	}
	_, _ = s.Settle(t.Context(), key) // as reconcile does
	if n := len(s.records()); n != 2 {
		t.Errorf("%d records, want the old one and the half that is to be destroyed", n)
	}
	s.machine.script(nil, nil)
	for id := range s.records() {
		_, err := s.Settle(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: id})
		check(t, err)
	}
	s.wantOnly("one")
}

// A failed recreate reads as absent and leaves nothing deployed; the next
// create replaces it.
func TestFailedRecreate(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.machine.script(failUp(errMistake), nil)
	s.update("two", ctf.Recreate)
	outcome, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	if outcome.Instance.State != ctf.Failed {
		t.Errorf("it is %s, want failed", outcome.Instance.State)
	}
	_, err = s.held()
	wantReason(t, err, ctf.ReasonInstanceNotFound)
	if left := s.machine.deployed(); len(left) > 0 {
		t.Errorf("deployed are still %v", left)
	}
	s.machine.script(nil, nil)
	r, err := s.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: s.challenge, Source: "team"})
	check(t, err)
	if r.Replaced != key.Identity {
		t.Errorf("replaced is %q, want %q", r.Replaced, key.Identity)
	}
	for _, id := range []ctf.Identity{r.Replaced, r.Instance.Key.Identity} {
		_, err := s.Settle(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: id})
		check(t, err)
	}
	s.wantOnly("two")
}

// What a failed recreate could not clear is cleared by whoever settles it next, or
// destroyed with its record.
func TestFailedRecreateThatCannotBeCleared(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	s.machine.script(func(context.Context, ctf.Program) error {
		s.machine.script(nil, failDown(errMistake))
		return errMistake
	}, nil)
	s.update("two", ctf.Recreate)
	_, err := s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	why := s.records()[key.Identity].Failure
	_, err = s.Settle(t.Context(), key)
	wantReason(t, err, ctf.ReasonDeploymentFailed)
	s.machine.script(nil, nil)
	for range 2 { // the second one finds nothing to do
		outcome, err := s.Settle(t.Context(), key)
		if err != nil || outcome.Instance.State != ctf.Failed || outcome.Instance.Failure != why {
			t.Errorf("it is %+v: %v; want failed because %q", outcome, err, why)
		}
		if left := s.machine.deployed(); len(left) > 0 {
			t.Errorf("deployed are still %v", left)
		}
	}
	if _, downs := s.machine.counts(); downs != 4 { // before the recreate, and then until one cleared it
		t.Errorf("%d destructions, want 4", downs)
	}
	s.delete()
	_, err = s.Settle(t.Context(), key)
	check(t, err)
	s.wantNothing()
}

func TestDeletionDuringAnUpdate(t *testing.T) {
	t.Parallel()
	for _, strategy := range strategies() {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			key := s.started()
			gate := newGate()
			s.machine.script(gate.up, nil)
			s.update("two", strategy)
			updating := s.settling(t.Context(), key)
			within(t, gate.reached)
			s.delete()
			if got := within(t, s.settling(t.Context(), key)); got.err != nil || !got.Gone {
				t.Errorf("deleting: %+v, want gone", got)
			}
			if got := within(t, updating); got.err != nil || !got.Gone {
				t.Errorf("updating: %+v, want gone", got)
			}
			s.wantNothing()
		})
	}
}

// An update in the middle of a deployment or of another update: the instance
// ends on the newest generation.
func TestUpdateOvertakes(t *testing.T) {
	t.Parallel()
	for _, first := range append([]ctf.Strategy{"deployment"}, strategies()...) {
		for _, second := range strategies() {
			t.Run(string(first)+" by "+string(second), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, time.Minute)
				gate := newGate()
				var key ctf.InstanceKey
				if first == "deployment" {
					key = s.reserve()
				} else {
					key = s.started()
					s.update("two", first)
				}
				s.machine.script(gate.up, nil)
				working := s.settling(t.Context(), key)
				within(t, gate.reached)
				s.update("three", second)
				close(gate.open)
				check(t, within(t, working).err)
				for id := range s.records() { // as the second update does
					_, err := s.Settle(t.Context(), ctf.InstanceKey{Challenge: s.challenge, Identity: id})
					check(t, err)
				}
				now := s.wantOnly("three")
				_, downs := s.machine.counts()
				switch {
				case first == "deployment": // which goes on in place
				case second == ctf.BlueGreen && now.Key == key:
					t.Error("it was not replaced")
				case first == ctf.InPlace && second == ctf.Recreate && downs == 0:
					t.Error("it was not made anew")
				}
			})
		}
	}
}

// An update fails while the next one, which mends it, is on record: whoever is at
// the first goes on with the next.
func TestUpdateMends(t *testing.T) {
	t.Parallel()
	for _, first := range strategies() {
		for _, second := range strategies() {
			t.Run(string(first)+" by "+string(second), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, time.Minute)
				key := s.started()
				gate := newGate()
				s.machine.script(func(ctx context.Context, p ctf.Program) error {
					if p.Scenario.Digest != "two" {
						return nil
					}
					return cmp.Or(gate.wait(ctx), errMistake)
				}, nil)
				s.update("two", first)
				working := s.settling(t.Context(), key)
				within(t, gate.reached)
				s.update("three", second)
				close(gate.open)
				check(t, within(t, working).err)
				check(t, s.Drain(t.Context()))
				s.wantOnly("three")
			})
		}
	}
}

// Two holders of a blue-green update, one of the old instance and one of the
// new, come to one end.
func TestReplacementIsSettledByAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	gate := newGate()
	s.machine.script(gate.up, nil)
	s.update("two", ctf.BlueGreen)
	updating := s.settling(t.Context(), key)
	within(t, gate.reached)
	var half ctf.InstanceKey
	for id, i := range s.records() {
		if i.Replaces != "" {
			half = ctf.InstanceKey{Challenge: s.challenge, Identity: id}
		}
	}
	reconciling := s.settling(t.Context(), half)
	close(gate.open)
	check(t, within(t, updating).err)
	if got := within(t, reconciling); got.err != nil || got.Instance.State != ctf.Ready {
		t.Errorf("reconciling: %+v, want ready", got)
	}
	s.wantOnly("two")
}
