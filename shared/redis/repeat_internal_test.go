package redis

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The client sends a script again when the connection broke before the answer came.
// These tests have something else happen in between.

// A pair are two processes on one Redis. The first one hears nothing of what it asks
// for, at times, and asks again.
type pair struct {
	*Store
	other     *Store
	hash      string
	meanwhile func()
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{Store: newStore(t)}
	options := p.client.(*redis.Client).Options()
	other, err := Open(t.Context(), Options{URL: "redis://" + options.Addr, Keys: p.keys})
	check(t, err)
	t.Cleanup(func() { check(t, other.Close()) })
	p.other = other
	p.client.AddHook(p)
	return p
}

// unheard has the next answer of a script get lost, and something happen before the
// script is sent again.
func (p *pair) unheard(t *testing.T, script string, meanwhile func()) {
	t.Helper()
	check(t, p.scripts[script].Load(t.Context(), p.client).Err())
	p.hash, p.meanwhile = p.scripts[script].Hash(), meanwhile
	t.Cleanup(func() {
		if p.meanwhile != nil {
			t.Errorf("%s was not run", script)
		}
	})
}

func (p *pair) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *pair) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (p *pair) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if happens := p.meanwhile; happens != nil && cmd.Name() == "evalsha" && cmd.Args()[1] == p.hash {
			p.meanwhile = nil
			happens()
			return next(ctx, cmd)
		}
		return err
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func repeated() ctf.ChallengeKey { return ctf.ChallengeKey{Tenant: "t", ID: "c"} }

func (p *pair) create(t *testing.T) {
	t.Helper()
	check(t, p.other.CreateChallenge(t.Context(), ctf.Challenge{Key: repeated(), Scenario: ctf.Scenario{Digest: "one"}}))
}

// TestRepeatedDisown: whoever gives a deletion up twice takes it away from nobody.
func TestRepeatedDisown(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx := t.Context()
	p.create(t)
	r, err := p.Reserve(ctx, ctf.ReserveRequest{Challenge: repeated(), Source: "alice"})
	check(t, err)
	instance := func(s *Store, want bool) ctf.Deletion {
		t.Helper()
		_, d, err := s.DeleteInstance(ctx, repeated(), "alice")
		if err != nil || d.First != want {
			t.Errorf("the deletion of the instance is the first: %t, %v", d.First, err)
		}
		return d
	}
	d := instance(p.Store, true)
	p.unheard(t, "disown", func() { instance(p.other, true) })
	check(t, p.DisownInstance(ctx, r.Instance.Key, d))
	instance(p.other, false)

	challenge := func(s *Store, want bool) ctf.Deletion {
		t.Helper()
		d, _, err := s.DeleteChallenge(ctx, repeated())
		if err != nil || d.First != want {
			t.Errorf("the deletion of the challenge is the first: %t, %v", d.First, err)
		}
		return d
	}
	d = challenge(p.Store, true)
	p.unheard(t, "disown", func() { challenge(p.other, true) })
	check(t, p.DisownChallenge(ctx, repeated(), d, []ctf.Identity{r.Instance.Key.Identity}))
	challenge(p.other, false)
}

// TestRepeatedDeletionOfAChallenge: it is done although there is a challenge of the
// same id again, which it leaves alone.
func TestRepeatedDeletionOfAChallenge(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx := t.Context()
	p.create(t)
	p.unheard(t, "delete_challenge", func() {
		d, _, err := p.other.DeleteChallenge(ctx, repeated())
		check(t, err)
		removed, err := p.other.RemoveChallenge(ctx, repeated(), d.Incarnation)
		if err != nil || !removed {
			t.Errorf("it is removed: %t, %v", removed, err)
		}
		p.create(t)
	})
	d, ids, err := p.DeleteChallenge(ctx, repeated())
	if err != nil || !d.First || len(ids) > 0 {
		t.Fatalf("it is told %+v, %v, %v", d, ids, err)
	}
	wantGone := func() {
		t.Helper()
		if removed, err := p.RemoveChallenge(ctx, repeated(), d.Incarnation); err != nil || removed {
			t.Errorf("the new one is removed: %t, %v", removed, err)
		}
	}
	wantGone()
	_, _, err = p.other.DeleteChallenge(ctx, repeated())
	check(t, err)
	wantGone()
}
