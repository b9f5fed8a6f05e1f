package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// A stop is work that goes on when its time is over, and what it leaves.
type stop struct {
	// ask records what is to be done of an instance of the scenario "one", if there
	// is to be one.
	ask func(s *site)
	// down: it is stopped while it destroys, else while it deploys.
	down bool
	// left are the states of all records then, and digest what is deployed once
	// somebody went on; empty is nothing.
	left   []ctf.State
	digest string
}

func stops() map[string]stop {
	updating := func(strategy ctf.Strategy) func(*site) {
		return func(s *site) { s.update("two", strategy) }
	}
	return map[string]stop{
		"deploy":                     {left: []ctf.State{ctf.Pending}, digest: "one"},
		"destroy":                    {(*site).delete, true, []ctf.State{ctf.Deleting}, ""},
		"update in place":            {updating(ctf.InPlace), false, []ctf.State{ctf.Updating}, "two"},
		"recreate, which destroys":   {updating(ctf.Recreate), true, []ctf.State{ctf.Updating}, "two"},
		"recreate, which deploys":    {updating(ctf.Recreate), false, []ctf.State{ctf.Updating}, "two"},
		"blue-green, which deploys":  {updating(ctf.BlueGreen), false, []ctf.State{ctf.Pending, ctf.Updating}, "two"},
		"blue-green, which destroys": {updating(ctf.BlueGreen), true, []ctf.State{ctf.Deleting, ctf.Ready}, "two"},
	}
}

// begin has the work begin and come to where it is to be stopped.
func (w stop) begin(t *testing.T) (s *site, g *gate, working <-chan settled) {
	t.Helper()
	s, g = newSite(t, time.Minute), newGate()
	var key ctf.InstanceKey
	if w.ask == nil {
		key = s.reserve()
	} else {
		key = s.started()
		w.ask(s)
	}
	if w.down {
		s.machine.script(nil, g.down)
	} else {
		s.machine.script(g.up, nil)
	}
	working = s.settling(t.Context(), key)
	within(t, g.reached)
	return s, g, working
}

func (w stop) wantDone(s *site) {
	s.t.Helper()
	if w.digest == "" {
		s.wantNothing()
	} else {
		s.wantOnly(w.digest)
	}
}

// When its time is over Drain stops what still runs, whatever it is at. That is on
// record, nobody holds it, and one event tells of it: whoever is next goes on with
// it at once.
func TestDrainHandsOn(t *testing.T) {
	t.Parallel()
	for name, work := range stops() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, working := work.begin(t)
			enough := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(enough)
			wantError(t, s.Drain(ctx), enough)
			entries, err := ctf.Collect(s.store.All(t.Context(), s.challenge))
			check(t, err)
			states := map[ctf.State]int{}
			for _, e := range entries {
				states[e.Instance.State]++
				if e.Leased {
					t.Errorf("%s, %s, is held", e.Instance.Key.Identity, e.Instance.State)
				}
			}
			for _, state := range work.left {
				states[state]--
			}
			for state, surplus := range states {
				if surplus != 0 {
					t.Errorf("%+d records are %s, want %v", surplus, state, work.left)
				}
			}
			wantReason(t, within(t, working).err, ctf.ReasonUnavailable)
			if n := s.handedOn(); n != 1 {
				t.Errorf("it was handed on %d times, want once", n)
			}
			_, err = s.Settle(t.Context(), entries[0].Instance.Key)
			wantReason(t, err, ctf.ReasonUnavailable) // nothing begins any more
			s.machine.script(nil, nil)
			other := lifecycle.New(s.open(), s.machine, s.announced, lifecycle.Bounds{}, time.Minute)
			for _, e := range entries {
				_, err := other.Finish(t.Context(), e.Instance.Key, time.Second) // less than a lease lasts
				check(t, err)
			}
			work.wantDone(s)
		})
	}
}

// In time Drain waits for what still runs, and nothing is handed on.
func TestDrainWaits(t *testing.T) {
	t.Parallel()
	for name, work := range stops() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, g, working := work.begin(t)
			drained := make(chan error, 1)
			go func() { drained <- s.Drain(t.Context()) }()
			close(g.open)
			check(t, within(t, drained))
			work.wantDone(s)
			check(t, within(t, working).err)
			if n := s.handedOn(); n != 0 {
				t.Errorf("it was handed on %d times", n)
			}
		})
	}
}
