package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

func testBlueGreenKeepsTheTerms(t *testing.T, e env) {
	ctx := t.Context()
	c := e.timed(t, time.Hour)
	i := e.reserveAdditional(t, c, alice, map[string]string{"a": "b"}).Instance
	e.deploy(t, c, i.Key.Identity)
	e.store.Shift(time.Minute)
	_, err := e.store.Renew(ctx, c, alice)
	check(t, err)
	updated := e.update(t, c, newDigest(ctf.BlueGreen))
	before, err := e.store.Instance(ctx, c, alice) // with the end that the update gave it
	check(t, err)
	if before.State != ctf.Updating || before.Strategy != ctf.BlueGreen {
		t.Fatalf("%+v", before)
	}
	old := e.lease(t, c, updated.Updating[0])
	half, err := old.Replacement(ctx)
	check(t, err)
	if again, err := old.Replacement(ctx); err != nil || again != half {
		t.Fatalf("an interrupted update found %s, not %s: %v", again, half, err)
	}
	if seen, err := e.store.Instance(ctx, c, alice); err != nil || seen.Key != before.Key {
		t.Fatalf("while updating it reads as %+v, %v", seen, err)
	}
	after := e.deploy(t, c, half)
	want := before
	want.Key.Identity, want.State, want.Strategy = half, ctf.Ready, ""
	want.ConnectionInfo, want.Flags = result(half).ConnectionInfo, result(half).Flags
	want.Generation, want.Scenario = 2, newDigest("").Scenario
	want.Revision, after.Revision = 0, 0
	if d := cmp.Diff(want, after); d != "" {
		t.Fatal(d)
	}
	// A later create with the same source attaches to nothing old.
	_, err = e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: alice})
	wantReason(t, err, ctf.ReasonInstanceExists)
}

func testFailedReplacementIsMadeAnew(t *testing.T, e env) {
	ctx := t.Context()
	c := e.timed(t, time.Hour)
	e.started(t, c, alice)
	updated := e.update(t, c, newDigest(ctf.BlueGreen))
	old := e.lease(t, c, updated.Updating[0])
	half, err := old.Replacement(ctx)
	check(t, err)
	l := e.lease(t, c, half)
	check(t, l.Abandon(ctx, ctf.Deleting, "it went wrong"))
	next, err := old.Replacement(ctx)
	check(t, err)
	if next == half {
		t.Fatal("a deleting replacement was given again")
	}
	check(t, l.Forget(ctx))
	if _, err := e.store.Instance(ctx, c, alice); err != nil {
		t.Fatal("forgetting the half took the pointer along:", err)
	}
}

func testClaimWithAdditional(t *testing.T, e env) {
	ctx := t.Context()
	c := newChallenge("c")
	c.Pool.Min, c.Timeout = 1, new(time.Hour)
	e.create(t, c)
	pooled := e.deploy(t, c.Key, e.pooled(t, c.Key))
	e.store.Shift(time.Minute)
	r := e.reserveAdditional(t, c.Key, alice, map[string]string{"a": "b"})
	if r.Claimed || r.Instance.State != ctf.Pending || r.Instance.Key != pooled.Key || !r.Instance.Since.Equal(pooled.Since) {
		t.Fatalf("%+v", r)
	}
	_, err := e.store.Instance(ctx, c.Key, alice)
	wantReason(t, err, ctf.ReasonInstanceNotFound)
	after := e.deploy(t, c.Key, pooled.Key.Identity)
	if after.State != ctf.Ready || !after.Since.Equal(pooled.Since) || !after.LastRenew.Equal(r.Instance.LastRenew) || after.Until == nil {
		t.Fatalf("%+v", after)
	}
}

// testUpdateRenews: every update counts the end from now, and leaves the rest.
func testUpdateRenews(t *testing.T, e env) {
	c := e.timed(t, time.Hour)
	before := e.started(t, c, alice)
	e.store.Shift(10 * time.Minute)
	u := e.update(t, c, ctf.ChallengeChange{})
	if len(u.Updating)+len(u.Deleting) != 0 || u.Challenge.Generation != 1 {
		t.Fatalf("%+v", u)
	}
	after, err := e.store.Instance(t.Context(), c, alice)
	check(t, err)
	if d := after.Until.Sub(*before.Until); d < 10*time.Minute || d > 11*time.Minute {
		t.Errorf("the end moved by %v", d)
	}
	if !after.LastRenew.Equal(before.LastRenew) || !after.Since.Equal(before.Since) {
		t.Errorf("%+v", after)
	}
	u = e.update(t, c, ctf.ChallengeChange{SetTimeout: true})
	if after, err = e.store.Instance(t.Context(), c, alice); err != nil || after.Until != nil || u.Challenge.Timeout != nil {
		t.Errorf("without a timeout: %+v, %v", after, err)
	}
}

func testEqualDigestStoresTheReference(t *testing.T, e env) {
	c := newChallenge("c")
	e.create(t, c)
	e.started(t, c.Key, alice)
	change := ctf.ChallengeChange{SetScenario: true, Scenario: ctf.Scenario{Reference: "registry/s@sha256:1", Digest: "sha256:1"}}
	u := e.update(t, c.Key, change)
	if u.Challenge.Scenario != change.Scenario || u.Challenge.Generation != 1 || len(u.Updating) != 0 {
		t.Fatalf("%+v", u)
	}
}

func testFailedUpdateIsTakenUpByTheNext(t *testing.T, e env) {
	ctx := t.Context()
	c := e.timed(t, time.Hour)
	e.started(t, c, alice)
	u := e.update(t, c, newDigest(ctf.InPlace))
	l := e.lease(t, c, u.Updating[0])
	check(t, l.Journal(ctf.Updating).Append(ctx, []byte("begin")))
	check(t, l.Abandon(ctx, ctf.Ready, "it went wrong"))
	w, err := l.Load(ctx)
	check(t, err)
	if w.Instance.Generation != 1 || w.Instance.Failure != "it went wrong" || len(w.Checkpoint.Journal) != 1 {
		t.Fatalf("%+v", w)
	}
	u = e.update(t, c, ctf.ChallengeChange{Strategy: ctf.Recreate})
	if len(u.Updating) != 1 {
		t.Fatalf("%+v", u)
	}
	w, err = l.Load(ctx)
	check(t, err)
	i, err := l.Deployed(ctx, w, result(u.Updating[0]))
	check(t, err)
	if i.Generation != 2 || i.Failure != "" || i.Strategy != "" {
		t.Fatalf("%+v", i)
	}
}

func testEvents(t *testing.T, e env) {
	ctx := t.Context()
	c := newChallenge("c")
	for range 2 { // a challenge that is made anew has other events
		e.create(t, c)
		d, _, err := e.store.DeleteChallenge(ctx, c.Key)
		check(t, err)
		_, err = e.store.RemoveChallenge(ctx, c.Key, d.Incarnation)
		check(t, err)
	}
	e.create(t, c)
	for range 60 {
		e.started(t, c.Key, alice)
		id, _, err := e.store.DeleteInstance(ctx, c.Key, alice)
		check(t, err)
		e.destroy(t, c.Key, id)
	}
	seen := map[string]bool{}
	for {
		events, _, err := e.store.Pending(ctx, c.Key, "")
		check(t, err)
		if len(events) == 0 {
			break
		}
		for _, event := range events {
			if seen[event.ID] || event.Revision < 1 || event.At.IsZero() || event.Challenge != c.Key {
				t.Fatalf("%+v", event)
			}
			seen[event.ID] = true
		}
		check(t, e.store.Published(ctx, c.Key, events))
		check(t, e.store.Published(ctx, c.Key, events))
	}
	if len(seen) != 2*3+1+60*4 {
		t.Fatalf("%d events", len(seen))
	}
	for _, k := range e.allKeys(t) {
		if ttl := e.raw.TTL(ctx, k).Val(); ttl > 0 && strings.HasSuffix(k, "}:o") {
			t.Errorf("%s ends in %v, but its challenge lives", k, ttl)
		}
	}
}

func testFailedDeleteIsTakenUpByTheNext(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	id := e.started(t, c, alice).Key.Identity
	deletes := func(want bool) (disown func()) {
		t.Helper()
		_, instance, err := e.store.DeleteInstance(ctx, c, alice)
		check(t, err)
		challenge, _, err := e.store.DeleteChallenge(ctx, c)
		check(t, err)
		if instance.First != want || challenge.First != want {
			t.Fatalf("first at the instance: %t, at the challenge: %t, want %t", instance.First, challenge.First, want)
		}
		return func() {
			check(t, e.store.DisownInstance(ctx, ctf.InstanceKey{Challenge: c, Identity: id}, instance))
			check(t, e.store.DisownChallenge(ctx, c, challenge, []ctf.Identity{id}))
		}
	}
	none := ctf.Deletion{Request: "unknown"} // nobody deletes by that name
	check(t, e.store.DisownInstance(ctx, ctf.InstanceKey{Challenge: c, Identity: id}, none))
	check(t, e.store.DisownChallenge(ctx, c, none, []ctf.Identity{id}))
	e.update(t, c, ctf.ChallengeChange{SetMin: true})
	disown := deletes(true)
	deletes(false)
	l := e.lease(t, c, id)
	check(t, l.Abandon(ctx, ctf.Deleting, "it is stuck"))
	l.Release()
	deletes(false) // whoever is told first may yet succeed
	disown()
	last := deletes(true)
	disown() // what is another's by now
	deletes(false)

	e.destroy(t, c, id)
	for _, want := range []bool{false, true} {
		d, _, err := e.store.DeleteChallenge(ctx, c)
		if err != nil || d.First != want {
			t.Errorf("with nothing left, the first is %+v, %v, want %t", d, err, want)
		}
		last()
	}
}

// testFailureAfterADelete: whoever fails at a deployment that somebody deleted
// meanwhile does not take the deletion away from him, who is told that it
// succeeded.
func testFailureAfterADelete(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	l := e.lease(t, c, e.reserve(t, c, alice).Instance.Key.Identity)
	_, err := l.Load(ctx)
	check(t, err)
	for n, want := range []bool{true, false} {
		_, d, err := e.store.DeleteInstance(ctx, c, alice)
		check(t, err)
		if d.First != want {
			t.Errorf("delete %d is the first: %t, want %t", n, d.First, want)
		}
		wantError(t, l.Abandon(ctx, ctf.Deleting, "it went wrong"), ctf.ErrSuperseded)
	}
}

// TestBareUntilSettled: no failure leaves an instance ready once a recreate has begun
// to destroy it, until it is deployed again. Who deploys it may be an older version,
// which does not know the field and leaves it.
func TestBareUntilSettled(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	for _, deployed := range []bool{false, true} {
		source := ctf.SourceID(fmt.Sprint(deployed))
		id := e.started(t, c, source).Key.Identity
		moved := newDigest(ctf.Recreate)
		moved.Scenario.Digest = fmt.Sprint("sha256:recreate ", deployed)
		e.update(t, c, moved)
		l := e.lease(t, c, id)
		check(t, l.Strip(ctx))
		w, err := l.Load(ctx)
		if err != nil || !w.Bare {
			t.Fatalf("bare is %v, %v", w.Bare, err)
		}
		want := ctf.Failed
		if deployed {
			record := e.recordOf(t, id)
			mark := e.raw.HGet(ctx, record, "bare").Val()
			_, err = l.Deployed(ctx, w, result(id))
			check(t, err)
			check(t, e.raw.HSet(ctx, record, "bare", mark).Err())
			want = ctf.Ready
		}
		moved.Scenario.Digest = fmt.Sprint("sha256:in place ", deployed)
		moved.Strategy = ctf.InPlace
		e.update(t, c, moved)
		w, err = l.Load(ctx)
		check(t, err)
		if w.Bare == deployed {
			t.Errorf("deployed is %v and bare is %v", deployed, w.Bare)
		}
		check(t, l.Abandon(ctx, ctf.Ready, "it went wrong"))
		if i, _ := e.find(t, c, id); i.State != want {
			t.Errorf("deployed is %v, and it is left %s, want %s", deployed, i.State, want)
		}
	}
}

// recordOf is the key of an instance's record.
func (e env) recordOf(t *testing.T, id ctf.Identity) string {
	t.Helper()
	for _, k := range e.allKeys(t) {
		if strings.HasSuffix(k, "}:i:"+string(id)) {
			return k
		}
	}
	t.Fatalf("there is no record of %s", id)
	return ""
}

// TestFollowTellsADeletion: of what a reservation led to it is known that somebody has
// deleted it, and not told of what failed.
func TestFollowTellsADeletion(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	ctx := t.Context()
	for name, test := range map[string]struct {
		end  func(c ctf.ChallengeKey, id ctf.Identity)
		want ctf.Reason
	}{
		"deleted": {func(c ctf.ChallengeKey, id ctf.Identity) {
			_, _, err := e.store.DeleteInstance(ctx, c, alice)
			check(t, err)
			e.destroy(t, c, id)
		}, ctf.ReasonInstanceDeleted},
		"deleted with its challenge": {func(c ctf.ChallengeKey, id ctf.Identity) {
			d, _, err := e.store.DeleteChallenge(ctx, c)
			check(t, err)
			e.destroy(t, c, id)
			_, err = e.store.RemoveChallenge(ctx, c, d.Incarnation)
			check(t, err)
		}, ctf.ReasonInstanceDeleted},
		"given up": {func(c ctf.ChallengeKey, id ctf.Identity) {
			l := e.lease(t, c, id)
			check(t, l.Abandon(ctx, ctf.Deleting, "it went wrong"))
			l.Release()
			e.destroy(t, c, id)
		}, ctf.ReasonInstanceNotFound},
		"moved, and failed there": {func(c ctf.ChallengeKey, id ctf.Identity) {
			e.deploy(t, c, id)
			e.update(t, c, newDigest(ctf.BlueGreen))
			old := e.lease(t, c, id)
			half, err := old.Replacement(ctx)
			check(t, err)
			old.Release()
			e.deploy(t, c, half)
			e.destroy(t, c, id)
			moved := newDigest(ctf.Recreate)
			moved.Scenario.Digest = "sha256:3"
			e.update(t, c, moved)
			check(t, e.lease(t, c, half).Abandon(ctx, ctf.Failed, "it went wrong"))
		}, ctf.ReasonInstanceNotFound},
	} {
		c := e.create(t, newChallenge(name))
		r := e.reserve(t, c, alice)
		test.end(c, r.Instance.Key.Identity)
		if _, err := e.store.Follow(ctx, r); ctf.ReasonOf(err) != test.want {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
