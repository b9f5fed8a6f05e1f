package createinstance_test

import (
	"context"
	"sync"
	"testing"
	"time"

	createinstance "github.com/mayfly-ctf/mayfly/functions/create-instance"
	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// An engine deploys in no time.
type engine struct{ ctf.Engine }

func (engine) Up(_ context.Context, p ctf.Program, _ ctf.Checkpoint, _ ctf.Journal) (ctf.Result, error) {
	return ctf.Result{ConnectionInfo: p.Scenario.Digest, Base: []byte("base")}, nil
}

func (engine) Down(context.Context, ctf.InstanceKey, ctf.Checkpoint, ctf.Journal) error { return nil }

type announcer struct{}

func (announcer) Announce(ctf.ChallengeKey) {}

func challenge() ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "challenge"}
}

// newStore is a store with one challenge, of the scenario "one".
func newStore(t *testing.T) *redis.Store {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	store, err := redis.Open(t.Context(), redis.Options{URL: redistest.Start(t), Keys: keys})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	check(t, store.CreateChallenge(t.Context(), ctf.Challenge{Key: challenge(), Scenario: ctf.Scenario{Digest: "one"}}))
	return store
}

// An interrupted store has something happen when an instance was deployed, and
// before anybody is told.
type interrupted struct {
	*redis.Store
	once      sync.Once
	interrupt func()
}

func (s *interrupted) Lease(ctx context.Context, key ctf.InstanceKey) (ctf.Lease, error) {
	lease, err := s.Store.Lease(ctx, key)
	return interruptedLease{lease, s}, err
}

type interruptedLease struct {
	ctf.Lease
	store *interrupted
}

func (l interruptedLease) Deployed(ctx context.Context, w ctf.Work, r ctf.Result) (ctf.Instance, error) {
	i, err := l.Lease.Deployed(ctx, w, r)
	l.store.once.Do(l.store.interrupt)
	return i, err
}

// TestInterrupted has an instance be moved, or deleted, right after it was
// deployed. Its creator is told where it is, or that it was deleted.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interrupt func(context.Context, *redis.Store) error
		reason    ctf.Reason
	}{
		"moved by a blue-green update": {func(ctx context.Context, s *redis.Store) error {
			_, err := s.UpdateChallenge(ctx, challenge(), ctf.ChallengeChange{
				SetScenario: true, Scenario: ctf.Scenario{Digest: "two"}, Strategy: ctf.BlueGreen,
			})
			return err
		}, ""},
		"deleted": {func(ctx context.Context, s *redis.Store) error {
			_, _, err := s.DeleteInstance(ctx, challenge(), "team")
			return err
		}, ctf.ReasonInstanceDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			l := lifecycle.New(&interrupted{Store: store, interrupt: func() {
				check(t, c.interrupt(t.Context(), store))
			}}, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)

			got, err := createinstance.New(store, l, announcer{}).Handle(t.Context(), ctf.Caller{Tenant: ctf.DefaultTenant},
				&instancev1.CreateInstanceRequest{ChallengeId: "challenge", SourceId: "team"})
			check(t, l.Drain(t.Context()))
			if reason := ctf.ReasonOf(err); reason != c.reason {
				t.Fatalf("got error %v, want reason %q", err, c.reason)
			}
			if err == nil && got.GetConnectionInfo() != "two" {
				t.Errorf("it is at %q, want two", got.GetConnectionInfo())
			}
		})
	}
}

// A late store learns of what it reserved after somebody has deleted it.
type late struct{ *redis.Store }

func (s late) Reserve(ctx context.Context, req ctf.ReserveRequest) (ctf.Reservation, error) {
	r, err := s.Store.Reserve(ctx, req)
	if err != nil {
		return r, err
	}
	if _, _, err := s.DeleteInstance(ctx, req.Challenge, req.Source); err != nil {
		return r, err
	}
	lease, err := s.Lease(ctx, r.Instance.Key)
	if err != nil {
		return r, err
	}
	defer lease.Release()
	r.Instance.State = ctf.Deleting
	return r, lease.Forget(ctx)
}

// What is gone before its creator learns of it is not made again.
func TestDeletedAtOnce(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	l := lifecycle.New(store, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)
	t.Cleanup(func() { check(t, l.Drain(context.Background())) })
	got, err := createinstance.New(late{store}, l, announcer{}).Handle(t.Context(), ctf.Caller{Tenant: ctf.DefaultTenant},
		&instancev1.CreateInstanceRequest{ChallengeId: "challenge", SourceId: "team"})
	if ctf.ReasonOf(err) != ctf.ReasonInstanceDeleted {
		t.Errorf("it answers %v, %v", got, err)
	}
}

// A create is repeated while its instance is updated: that is there, and nobody
// waits for the update.
func TestRepeatedDuringAnUpdate(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	l := lifecycle.New(store, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)
	t.Cleanup(func() { check(t, l.Drain(context.Background())) })
	ctx, err := api.WithIdempotencyKey(t.Context(), "key")
	check(t, err)
	create := func() string {
		got, err := createinstance.New(store, l, announcer{}).Handle(ctx, ctf.Caller{Tenant: ctf.DefaultTenant},
			&instancev1.CreateInstanceRequest{ChallengeId: "challenge", SourceId: "team"})
		check(t, err)
		return got.GetConnectionInfo()
	}
	create()
	_, err = store.UpdateChallenge(t.Context(), challenge(), ctf.ChallengeChange{SetScenario: true, Scenario: ctf.Scenario{Digest: "two"}, Strategy: ctf.InPlace})
	check(t, err)
	if got := create(); got != "one" {
		t.Errorf("it is at %q, want what runs before anybody has updated it", got)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
