package createinstance_test

import (
	"cmp"
	"context"
	"errors"
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

// An interrupted store has something happen when an instance was deployed: before
// that is on record, or after it and before anybody is told. The errors are what the
// deployer hears.
type interrupted struct {
	*redis.Store
	once          sync.Once
	before, after interruption
}

type interruption func(context.Context, *redis.Store, ctf.Lease, ctf.InstanceKey) error

func (s *interrupted) Lease(ctx context.Context, key ctf.InstanceKey, held ...func()) (ctf.Lease, error) {
	lease, err := s.Store.Lease(ctx, key, held...)
	return interruptedLease{lease, s}, err
}

type interruptedLease struct {
	ctf.Lease
	store *interrupted
}

func (l interruptedLease) Deployed(ctx context.Context, w ctf.Work, r ctf.Result) (i ctf.Instance, err error) {
	first := false
	l.store.once.Do(func() { first = true })
	if first && l.store.before != nil {
		if err := l.store.before(ctx, l.store.Store, l.Lease, w.Instance.Key); err != nil {
			return ctf.Instance{}, err
		}
	}
	i, err = l.Lease.Deployed(ctx, w, r)
	if first && l.store.after != nil {
		err = cmp.Or(l.store.after(ctx, l.store.Store, l.Lease, w.Instance.Key), err)
	}
	return i, err
}

// TestInterrupted has something happen to an instance right when it was deployed. Its
// creator is told where it is, that it was deleted, or that nobody knows.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	remove := func(ctx context.Context, s *redis.Store, _ ctf.Lease, _ ctf.InstanceKey) error {
		_, _, err := s.DeleteInstance(ctx, challenge(), "team")
		return err
	}
	for name, c := range map[string]struct {
		before, after interruption
		reason        ctf.Reason
	}{
		"moved by a blue-green update": {after: func(ctx context.Context, s *redis.Store, _ ctf.Lease, _ ctf.InstanceKey) error {
			_, err := s.UpdateChallenge(ctx, challenge(), ctf.ChallengeChange{
				SetScenario: true, Scenario: ctf.Scenario{Digest: "two"}, Strategy: ctf.BlueGreen,
			})
			return err
		}},
		"deleted": {after: remove, reason: ctf.ReasonInstanceDeleted},
		"deleted, and it was not heard that it is deployed": {after: func(ctx context.Context, s *redis.Store, held ctf.Lease, key ctf.InstanceKey) error {
			return cmp.Or(remove(ctx, s, held, key), ctf.StoreUnavailable(errors.New("no answer")))
		}, reason: ctf.ReasonInstanceDeleted},
		"failed for another, who took the lease": {before: func(ctx context.Context, s *redis.Store, held ctf.Lease, key ctf.InstanceKey) error {
			held.Release() // as if it had been silent for long
			other, err := s.Lease(ctx, key)
			if err != nil {
				return err
			}
			defer other.Release()
			_, err = other.Load(ctx)
			return cmp.Or(err, other.Abandon(ctx, ctf.Deleting, "broken"), other.Forget(ctx))
		}, reason: ctf.ReasonUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			l := lifecycle.New(&interrupted{Store: store, before: c.before, after: c.after}, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)

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

// An overtaken store has something happen before the lease of an instance is taken.
type overtaken struct {
	*redis.Store
	once     sync.Once
	overtake func(ctf.InstanceKey)
}

func (s *overtaken) Lease(ctx context.Context, key ctf.InstanceKey, held ...func()) (ctf.Lease, error) {
	s.once.Do(func() { s.overtake(key) })
	return s.Store.Lease(ctx, key, held...)
}

// A broken engine makes nothing.
type broken struct{ engine }

func (broken) Up(context.Context, ctf.Program, ctf.Checkpoint, ctf.Journal) (ctf.Result, error) {
	return ctf.Result{}, ctf.DeploymentFailed("the author's mistake", nil)
}

// TestOvertaken has another one take the lease first. If it was another create of the
// same key, which failed, nobody deleted the instance, and nobody is told so.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	gone := func(t *testing.T, s *redis.Store, key ctf.InstanceKey) {
		t.Helper()
		_, _, err := s.DeleteInstance(t.Context(), challenge(), "team")
		check(t, err)
		l := lifecycle.New(s, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)
		if outcome, err := l.Settle(t.Context(), key); err != nil || !outcome.Destroyed {
			t.Errorf("%+v %v, want it destroyed", outcome, err)
		}
	}
	for name, c := range map[string]struct {
		overtake func(*testing.T, *redis.Store, ctf.InstanceKey)
		reason   ctf.Reason
	}{
		"by a deletion": {gone, ctf.ReasonInstanceDeleted},
		"by a deletion and the next create": {func(t *testing.T, s *redis.Store, key ctf.InstanceKey) {
			t.Helper()
			gone(t, s, key)
			_, err := s.Reserve(t.Context(), ctf.ReserveRequest{Challenge: challenge(), Source: "team"})
			check(t, err)
		}, ctf.ReasonInstanceDeleted},
		"by a failure that leaves nothing": {func(t *testing.T, s *redis.Store, key ctf.InstanceKey) {
			t.Helper()
			l := lifecycle.New(s, broken{}, announcer{}, lifecycle.Bounds{}, time.Minute)
			if outcome, err := l.Settle(t.Context(), key); ctf.ReasonOf(err) != ctf.ReasonDeploymentFailed || !outcome.Destroyed {
				t.Errorf("%+v %v, want it destroyed", outcome, err)
			}
		}, ctf.ReasonUnavailable},
		"by a failure that leaves it": {func(t *testing.T, s *redis.Store, key ctf.InstanceKey) {
			t.Helper()
			lease, err := s.Lease(t.Context(), key)
			check(t, err)
			defer lease.Release()
			_, err = lease.Load(t.Context())
			check(t, err)
			check(t, lease.Abandon(t.Context(), ctf.Deleting, "the author's mistake"))
		}, ctf.ReasonUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			l := lifecycle.New(&overtaken{Store: store, overtake: func(key ctf.InstanceKey) {
				c.overtake(t, store, key)
			}}, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)
			_, err := createinstance.New(store, l, announcer{}).Handle(t.Context(), ctf.Caller{Tenant: ctf.DefaultTenant},
				&instancev1.CreateInstanceRequest{ChallengeId: "challenge", SourceId: "team"})
			check(t, l.Drain(t.Context()))
			if reason := ctf.ReasonOf(err); reason != c.reason {
				t.Errorf("got error %v, want reason %q", err, c.reason)
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
