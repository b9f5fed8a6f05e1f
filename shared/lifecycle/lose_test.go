package lifecycle_test

import (
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// loss is what reconcile asks about an instance that a platform does not have.
func (s *site) loss(key ctf.InstanceKey) lifecycle.Loss {
	s.t.Helper()
	missing := func(r ctf.Resource) bool { return r == ctf.Resource{Type: "machine:index:Entry", ID: "1"} }
	return lifecycle.Loss{Instance: key, Revision: s.records()[key.Identity].Revision, Missing: missing}
}

func TestLostIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	before, err := s.held()
	check(t, err)
	s.machine.lose(key.Identity)
	lost, err := s.Lose(t.Context(), s.loss(key), ctf.Updating)
	if !lost || err != nil {
		t.Fatalf("lost: %v %v", lost, err)
	}
	_, err = s.Settle(t.Context(), key)
	check(t, err)
	after := s.wantOnly("one")
	if after.Key != key || after.Since != before.Since || after.Failure != "" {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	if ups, downs := s.machine.counts(); ups != 2 || downs != 1 {
		t.Errorf("%d deployments and %d destructions, want 2 and 1", ups, downs)
	}
}

func TestLostIsEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	lost, err := s.Lose(t.Context(), s.loss(key), ctf.Deleting)
	if !lost || err != nil {
		t.Fatalf("lost: %v %v", lost, err)
	}
	_, err = s.Settle(t.Context(), key)
	check(t, err)
	s.wantNothing()
}

// What is only shown stays, and is told again each time.
func TestLostIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	before := s.records()[key.Identity]
	for range 2 {
		lost, err := s.Lose(t.Context(), s.loss(key), ctf.Ready)
		if !lost || err != nil {
			t.Fatalf("lost: %v %v", lost, err)
		}
	}
	after := s.records()[key.Identity]
	if after.State != ctf.Ready || after.Failure == "" || after.Revision != before.Revision {
		t.Errorf("it was %+v and is %+v", before, after)
	}
}

// What only looks lost is left alone: it is worked on, or was since the platform
// was asked, or is made of nothing there.
func TestNotLost(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(s *site, loss *lifecycle.Loss){
		"nothing that was made is missing": func(_ *site, loss *lifecycle.Loss) {
			loss.Missing = func(ctf.Resource) bool { return false }
		},
		"it is gone":          func(s *site, loss *lifecycle.Loss) { s.delete(); _, _ = s.Settle(s.t.Context(), loss.Instance) },
		"it is being deleted": func(s *site, _ *lifecycle.Loss) { s.delete() },
		"it is being updated": func(s *site, _ *lifecycle.Loss) { s.update("two", ctf.InPlace) },
		"it was updated": func(s *site, loss *lifecycle.Loss) {
			s.update("two", ctf.InPlace)
			_, err := s.Settle(s.t.Context(), loss.Instance)
			check(s.t, err)
		},
		"somebody is at it": func(s *site, loss *lifecycle.Loss) {
			lease, err := s.open().Lease(s.t.Context(), loss.Instance)
			check(s.t, err)
			s.t.Cleanup(lease.Release)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Minute)
			loss := s.loss(s.started())
			meanwhile(s, &loss)
			before := s.records()
			for _, state := range []ctf.State{ctf.Updating, ctf.Deleting, ctf.Ready} {
				if lost, err := s.Lose(t.Context(), loss, state); lost || err != nil {
					t.Errorf("lost: %v %v", lost, err)
				}
			}
			for id, i := range s.records() {
				if i.Revision != before[id].Revision || i.Failure != "" {
					t.Errorf("it is changed: %+v", i)
				}
			}
		})
	}
}

// lose takes what is deployed away behind everybody's back.
func (m *machine) lose(id ctf.Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, id)
}

// A record that changes while its loss is recorded is another one.
func TestLossIsOfOneRevision(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Minute)
	key := s.started()
	lease, err := s.open().Lease(t.Context(), key)
	check(t, err)
	defer lease.Release()
	work, err := lease.Load(t.Context())
	check(t, err)
	_, err = s.store.UpdateChallenge(t.Context(), s.challenge, ctf.ChallengeChange{SetTimeout: true, Timeout: new(time.Hour)})
	check(t, err)
	wantError(t, lease.Lose(t.Context(), work, ctf.Deleting, ""), ctf.ErrSuperseded)
}
