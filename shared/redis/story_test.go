package redis_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// testStory is a whole life: registered, pooled, claimed, renewed, updated,
// expired, gone.
func testStory(t *testing.T, e env) {
	ctx := t.Context()
	c := newChallenge("chal/with ünïcode")
	c.Timeout = new(10 * time.Minute)
	c.Additional = map[string]string{"a": "1"}
	c.Pool = ctf.Pool{Min: 1, Max: 5}
	e.create(t, c)
	wantReason(t, e.store.CreateChallenge(ctx, c), ctf.ReasonChallengeExists)
	got, err := e.store.Challenge(ctx, c.Key)
	check(t, err)
	c.Generation, c.Incarnation = 1, got.Incarnation
	if d := cmp.Diff(c, got); d != "" {
		t.Fatal(d)
	}
	if all := collect(t, e.store.Challenges(ctx, tenant)); len(all) != 1 || all[0].Key != c.Key {
		t.Fatalf("challenges: %v", all)
	}

	pooled := e.pooled(t, c.Key)
	if _, ok, err := e.store.ReservePooled(ctx, c.Key); ok || err != nil {
		t.Fatalf("a full pool took another: %v", err)
	}
	e.deploy(t, c.Key, pooled)
	r := e.reserve(t, c.Key, "alice")
	if !r.Claimed || r.Instance.Key.Identity != pooled || r.Instance.Until == nil {
		t.Fatalf("claim: %+v", r)
	}
	i, err := e.store.Instance(ctx, c.Key, "alice")
	check(t, err)
	if i.ConnectionInfo != result(pooled).ConnectionInfo || !slices.Equal(i.Flags, result(pooled).Flags) {
		t.Fatalf("instance: %+v", i)
	}
	e.store.Shift(time.Minute)
	renewed, err := e.store.Renew(ctx, c.Key, "alice")
	check(t, err)
	if d := renewed.Until.Sub(*i.Until); d < time.Minute || d > 2*time.Minute {
		t.Fatalf("renewed by %v", d)
	}

	u := e.update(t, c.Key, newDigest(ctf.BlueGreen))
	if d := cmp.Diff([]ctf.Identity{pooled}, u.Updating); d != "" {
		t.Fatal(d)
	}
	l := e.lease(t, c.Key, pooled)
	half, err := l.Replacement(ctx)
	check(t, err)
	e.deploy(t, c.Key, half)
	check(t, l.Forget(ctx))
	l.Release()
	if all := collect(t, e.store.BySource(ctx, tenant, "alice")); len(all) != 1 || all[0].Key.Identity != half || all[0].Generation != 2 {
		t.Fatalf("after blue-green: %+v", all)
	}

	e.store.Shift(15 * time.Minute)
	if got := e.due(t); !slices.Contains(got, half) {
		t.Fatalf("due: %v", got)
	}
	e.destroy(t, c.Key, half)
	check(t, e.store.HandOn(ctx, c.Key))
	d, left, err := e.store.DeleteChallenge(ctx, c.Key)
	if !d.First || len(left) != 0 || err != nil {
		t.Fatalf("delete: %+v %v %v", d, left, err)
	}
	removed, err := e.store.RemoveChallenge(ctx, c.Key, d.Incarnation)
	if !removed || err != nil {
		t.Fatalf("remove: %v %v", removed, err)
	}
	check(t, e.store.HandOn(ctx, c.Key)) // there is nothing to hand on
	events, _, err := e.store.Pending(ctx, c.Key, "")
	check(t, err)
	var types []ctf.EventType
	for _, event := range events {
		types = append(types, event.Type)
	}
	want := []ctf.EventType{
		ctf.ChallengeCreated, ctf.InstancePending, ctf.InstanceReady, ctf.InstanceClaimed, ctf.InstanceRenewed,
		ctf.ChallengeUpdated, ctf.InstanceUpdating, ctf.InstancePending, ctf.InstanceDeleting, ctf.InstanceReady, ctf.InstanceDestroyed,
		ctf.InstanceDeleting, ctf.InstanceDestroyed, ctf.ChallengeUnsettled, ctf.ChallengeUpdated, ctf.ChallengeDeleted,
	}
	if d := cmp.Diff(want, types); d != "" {
		t.Fatal(d)
	}
	check(t, e.store.Published(ctx, c.Key, events))
	if events, _, err = e.store.Pending(ctx, c.Key, ""); err != nil || len(events) != 0 {
		t.Fatalf("published, but still there: %v %v", events, err)
	}
}
