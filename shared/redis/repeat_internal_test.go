package redis

import (
	"context"
	"slices"
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

// forget has the other one destroy an instance that is deleting.
func (p *pair) forget(t *testing.T, id ctf.Identity) {
	t.Helper()
	l, err := p.other.Lease(t.Context(), ctf.InstanceKey{Challenge: repeated(), Identity: id})
	check(t, err)
	defer l.Release()
	check(t, l.Forget(t.Context()))
}

// remove has the other one delete the challenge, of which no instance is left but
// those that this deletes.
func (p *pair) remove(t *testing.T) {
	t.Helper()
	d, ids, err := p.other.DeleteChallenge(t.Context(), repeated())
	check(t, err)
	for _, id := range ids {
		p.forget(t, id)
	}
	removed, err := p.other.RemoveChallenge(t.Context(), repeated(), d.Incarnation)
	if err != nil || !removed {
		t.Errorf("it is removed: %t, %v", removed, err)
	}
}

// TestRepeatedCreate: what somebody deleted meanwhile is not made again.
func TestRepeatedCreate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pool    int64
		destroy func(t *testing.T, p *pair)
	}{
		"deleted":                 {0, deleteOfAlice},
		"claimed, deleted":        {1, deleteOfAlice},
		"the challenge is gone":   {0, func(t *testing.T, p *pair) { p.remove(t) }},
		"the challenge is anew":   {0, func(t *testing.T, p *pair) { p.remove(t); p.create(t) }},
		"deleted, not yet gone":   {0, func(t *testing.T, p *pair) { deleteOnly(t, p) }},
		"the source has it again": {0, func(t *testing.T, p *pair) { deleteOfAlice(t, p); reserveOther(t, p) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			ctx := t.Context()
			p.create(t)
			if test.pool > 0 {
				_, err := p.UpdateChallenge(ctx, repeated(), ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: test.pool}})
				check(t, err)
				p.fill(t)
			}
			var before []string
			p.unheard(t, "reserve", func() {
				test.destroy(t, p)
				before = p.events(t)
			})
			r, err := p.Reserve(ctx, ctf.ReserveRequest{Challenge: repeated(), Source: "alice"})
			check(t, err)
			if r.Claimed || r.Attached || r.Instance.Key.Challenge != repeated() || r.Instance.Source != "alice" || r.Instance.State != ctf.Deleting {
				t.Errorf("it is told %+v", r)
			}
			if after := p.events(t); !slices.Equal(before, after) {
				t.Errorf("something happened: %v, %v", before, after)
			}
			if i, err := p.Follow(ctx, r); err == nil {
				t.Errorf("it is led to %+v", i)
			}
		})
	}
}

func deleteOnly(t *testing.T, p *pair) ctf.Identity {
	t.Helper()
	id, _, err := p.other.DeleteInstance(t.Context(), repeated(), "alice")
	check(t, err)
	return id
}

func deleteOfAlice(t *testing.T, p *pair) {
	t.Helper()
	p.forget(t, deleteOnly(t, p))
}

func reserveOther(t *testing.T, p *pair) {
	t.Helper()
	_, err := p.other.Reserve(t.Context(), ctf.ReserveRequest{Challenge: repeated(), Source: "alice"})
	check(t, err)
}

// fill has the other one make a pooled instance ready.
func (p *pair) fill(t *testing.T) {
	t.Helper()
	id, ok, err := p.other.ReservePooled(t.Context(), repeated())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	l, err := p.other.Lease(t.Context(), ctf.InstanceKey{Challenge: repeated(), Identity: id})
	check(t, err)
	defer l.Release()
	w, err := l.Load(t.Context())
	check(t, err)
	_, err = l.Deployed(t.Context(), w, ctf.Result{})
	check(t, err)
}

// events are the names of all that has happened to the challenge and its instances.
func (p *pair) events(t *testing.T) (ids []string) {
	t.Helper()
	pending, _, err := p.other.Pending(t.Context(), repeated(), "")
	check(t, err)
	for _, e := range pending {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestRepeatedFill: a pooled instance that was dropped meanwhile is not made again.
func TestRepeatedFill(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx := t.Context()
	p.create(t)
	want := func(size int64) []ctf.Identity {
		u, err := p.other.UpdateChallenge(ctx, repeated(), ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: size}})
		check(t, err)
		return u.Deleting
	}
	want(1)
	p.unheard(t, "reserve_pooled", func() { // it only looks first
		p.unheard(t, "reserve_pooled", func() {
			p.forget(t, want(0)[0])
			want(1)
		})
	})
	id, _, err := p.ReservePooled(ctx, repeated())
	check(t, err)
	if found, err := p.Recorded(ctx, []ctf.InstanceKey{{Challenge: repeated(), Identity: id}}); err != nil || found[0] {
		t.Errorf("%s is on record again: %v", id, err)
	}
}

// TestRepeatedCreateOfAChallenge: what somebody removed meanwhile is not made again.
func TestRepeatedCreateOfAChallenge(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx := t.Context()
	mine := ctf.Challenge{Key: repeated(), Scenario: ctf.Scenario{Digest: "mine"}}
	p.unheard(t, "create_challenge", func() { p.remove(t) })
	check(t, p.CreateChallenge(ctx, mine))
	if c, err := p.Challenge(ctx, repeated()); ctf.ReasonOf(err) != ctf.ReasonChallengeNotFound {
		t.Fatalf("it is there: %+v, %v", c, err)
	}
	p.unheard(t, "create_challenge", func() { p.remove(t); p.create(t) })
	check(t, p.CreateChallenge(ctx, mine))
	if c, err := p.Challenge(ctx, repeated()); err != nil || c.Scenario.Digest != "one" {
		t.Errorf("it is not the one that is there since: %+v, %v", c, err)
	}
}

// TestRepeatedUpdate: it takes nothing back of what others changed meanwhile.
func TestRepeatedUpdate(t *testing.T) {
	t.Parallel()
	change := func(digest string) ctf.ChallengeChange {
		return ctf.ChallengeChange{SetScenario: true, Scenario: ctf.Scenario{Digest: digest}, Strategy: ctf.InPlace}
	}
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, p *pair)
		digest    string
		reason    ctf.Reason
		updating  int
	}{
		"nothing": {func(*testing.T, *pair) {}, "mine", "", 1},
		"updated": {func(t *testing.T, p *pair) {
			_, err := p.other.UpdateChallenge(t.Context(), repeated(), change("others"))
			check(t, err)
		}, "others", "", 1},
		"instance deleted": {deleteOfAlice, "mine", "", 0},
		"deleting": {func(t *testing.T, p *pair) {
			_, _, err := p.other.DeleteChallenge(t.Context(), repeated())
			check(t, err)
		}, "mine", "", 0},
		"gone":         {func(t *testing.T, p *pair) { p.remove(t) }, "", ctf.ReasonUnavailable, 0},
		"created anew": {func(t *testing.T, p *pair) { p.remove(t); p.create(t) }, "one", ctf.ReasonUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			ctx := t.Context()
			p.create(t)
			_, err := p.other.UpdateChallenge(ctx, repeated(), ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: 1}})
			check(t, err)
			p.fill(t)
			reserveOther(t, p)
			p.fill(t)
			var before []string
			p.unheard(t, "update_challenge", func() {
				test.meanwhile(t, p)
				before = p.events(t)
			})
			u, err := p.UpdateChallenge(ctx, repeated(), change("mine"))
			if ctf.ReasonOf(err) != test.reason {
				t.Fatalf("it is told %+v, %v", u, err)
			}
			if after := p.events(t); !slices.Equal(before, after) {
				t.Errorf("something happened: %v, %v", before, after)
			}
			if c, _ := p.Challenge(ctx, repeated()); c.Scenario.Digest != test.digest {
				t.Errorf("its scenario is %q, want %q", c.Scenario.Digest, test.digest)
			}
			if err == nil && (len(u.Updating) != test.updating || len(u.Deleting) != 1) {
				t.Errorf("it is told to settle %v and %v", u.Updating, u.Deleting)
			}
		})
	}
}
