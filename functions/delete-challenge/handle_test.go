package deletechallenge_test

import (
	"context"
	"errors"
	"testing"
	"time"

	deletechallenge "github.com/mayfly-ctf/mayfly/functions/delete-challenge"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// An engine destroys in no time.
type engine struct{ ctf.Engine }

func (engine) Down(context.Context, ctf.InstanceKey, ctf.Checkpoint, ctf.Journal) error { return nil }

type announcer struct{}

func (announcer) Announce(ctf.ChallengeKey) {}

func challenge() ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "challenge"}
}

// An interrupted store has something happen when all is settled, before the
// challenge is removed; an error of it is all that comes of the removal.
type interrupted struct {
	*redis.Store
	interrupt func() error
}

func (s *interrupted) RemoveChallenge(ctx context.Context, key ctf.ChallengeKey, incarnation string) (bool, error) {
	if err := s.interrupt(); err != nil {
		return false, err
	}
	return s.Store.RemoveChallenge(ctx, key, incarnation)
}

// newStore is a store with one challenge, of which a team has an instance.
func newStore(t *testing.T) *redis.Store {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	store, err := redis.Open(t.Context(), redis.Options{URL: redistest.Start(t), Keys: keys})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	check(t, store.CreateChallenge(t.Context(), ctf.Challenge{Key: challenge()}))
	_, err = store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: challenge(), Source: "team"})
	check(t, err)
	return store
}

// handle deletes the challenge while something happens.
func handle(ctx context.Context, t *testing.T, store *redis.Store, interrupt func() error) error {
	t.Helper()
	l := lifecycle.New(store, engine{}, announcer{}, lifecycle.Bounds{}, time.Minute)
	defer func() { check(t, l.Drain(context.WithoutCancel(ctx))) }()
	_, err := deletechallenge.New(&interrupted{store, interrupt}, l, announcer{}).Handle(ctx,
		ctf.Caller{Tenant: challenge().Tenant}, &challengev1.DeleteChallengeRequest{Id: string(challenge().ID)})
	return err
}

// TestCallerLeaves: once nothing is left of a challenge it goes, whoever waits for it.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	ctx, leave := context.WithCancel(t.Context())
	check(t, handle(ctx, t, store, func() error { leave(); return nil }))
	if c, err := store.Challenge(t.Context(), challenge()); ctf.ReasonOf(err) != ctf.ReasonChallengeNotFound {
		t.Errorf("it is there: %+v, %v", c, err)
	}
}

// TestRemovalFails: the deletion belongs to the next call, and until one comes it
// is gone on with by an event.
func TestRemovalFails(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	away := errors.New("redis is away")
	if err := handle(t.Context(), t, store, func() error { return away }); !errors.Is(err, away) {
		t.Errorf("it answers %v", err)
	}
	pending, _, err := store.Pending(t.Context(), challenge(), "")
	check(t, err)
	if last := pending[len(pending)-1]; last.Type != ctf.ChallengeUnsettled {
		t.Errorf("the last event is %s", last.Type)
	}
	check(t, handle(t.Context(), t, store, func() error { return nil }))
	if err := handle(t.Context(), t, store, func() error { return nil }); ctf.ReasonOf(err) != ctf.ReasonChallengeNotFound {
		t.Errorf("of what is gone it answers %v", err)
	}
}

// TestCreatedAnew: when others have removed the challenge, and created one of its id,
// the deletion is done.
func TestCreatedAnew(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	check(t, handle(t.Context(), t, store, func() error {
		d, _, err := store.DeleteChallenge(t.Context(), challenge())
		check(t, err)
		_, err = store.RemoveChallenge(t.Context(), challenge(), d.Incarnation)
		check(t, err)
		return store.CreateChallenge(t.Context(), ctf.Challenge{Key: challenge()})
	}))
	if c, err := store.Challenge(t.Context(), challenge()); err != nil || c.Deleting {
		t.Errorf("what was created since is deleted: %+v, %v", c, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
