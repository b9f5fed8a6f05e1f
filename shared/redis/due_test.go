package redis_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// timed is a challenge whose instances live ten minutes.
func (e env) timed(t *testing.T, timeout time.Duration) ctf.ChallengeKey {
	t.Helper()
	c := newChallenge("timed")
	c.Timeout = &timeout
	return e.create(t, c)
}

func (e env) wantDue(t *testing.T, want ...ctf.Identity) {
	t.Helper()
	if d := cmp.Diff(want, e.due(t)); d != "" {
		t.Fatal(d)
	}
}

func testDueAtTheEnd(t *testing.T, e env) {
	c := e.timed(t, 10*time.Minute)
	id := e.started(t, c, alice).Key.Identity
	e.wantDue(t)
	e.store.Shift(3 * time.Minute)
	e.wantDue(t) // the announcement, which leaves the date
	e.store.Shift(6 * time.Minute)
	e.wantDue(t)
	e.store.Shift(61 * time.Second)
	_, err := e.store.Instance(t.Context(), c, alice)
	wantReason(t, err, ctf.ReasonInstanceNotFound)
	e.wantDue(t, id)
	e.wantDue(t) // handed out
	e.store.Shift(61 * time.Second)
	e.wantDue(t, id) // and never destroyed
	e.destroy(t, c, id)
	e.store.Shift(time.Hour)
	e.wantDue(t)
}

func testDueSoonIsExact(t *testing.T, e env) {
	c := e.timed(t, 5*time.Second)
	id := e.started(t, c, alice).Key.Identity
	e.store.Shift(4 * time.Second)
	e.wantDue(t)
	e.store.Shift(1010 * time.Millisecond)
	e.wantDue(t, id)
}

func testDueAfterRenew(t *testing.T, e env) {
	c := e.timed(t, 10*time.Minute)
	id := e.started(t, c, alice).Key.Identity
	e.store.Shift(3 * time.Minute)
	e.wantDue(t)
	e.store.Shift(5 * time.Minute)
	_, err := e.store.Renew(t.Context(), c, alice)
	check(t, err)
	e.store.Shift(9 * time.Minute) // past the first end
	e.wantDue(t)
	e.store.Shift(61 * time.Second)
	e.wantDue(t, id)
}

func testDueAfterShortening(t *testing.T, e env) {
	c := e.timed(t, 10*time.Hour)
	id := e.started(t, c, alice).Key.Identity
	e.store.Shift(3 * time.Minute)
	e.wantDue(t)
	e.update(t, c, ctf.ChallengeChange{SetTimeout: true, Timeout: new(time.Second)})
	e.store.Shift(1010 * time.Millisecond)
	e.wantDue(t, id)
}

func testDuePoolEndsWithItsChallenge(t *testing.T, e env) {
	c := newChallenge("c")
	c.Pool.Min, c.Until = 2, new(time.Now().Add(10*time.Minute))
	e.create(t, c)
	ids := []ctf.Identity{e.pooled(t, c.Key), e.pooled(t, c.Key)}
	e.deploy(t, c.Key, ids[0])
	e.store.Shift(3 * time.Minute)
	e.wantDue(t)
	e.store.Shift(7*time.Minute + time.Second)
	got := e.due(t)
	slices.Sort(got)
	slices.Sort(ids)
	if d := cmp.Diff(ids, got); d != "" {
		t.Fatal(d)
	}
}

func testDueWhenTheDestroyerDied(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	id := e.started(t, c, alice).Key.Identity
	_, _, err := e.store.DeleteInstance(t.Context(), c, alice)
	check(t, err)
	e.wantDue(t) // its caller is at it
	e.store.Shift(3 * time.Minute)
	e.wantDue(t, id)
}

func testBusySourceIsLookedAt(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	id := e.started(t, c, alice).Key.Identity
	_, _, err := e.store.DeleteInstance(t.Context(), c, alice)
	check(t, err)
	e.reserve(t, c, alice)
	for range 13 {
		e.store.Shift(10 * time.Second)
		_, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice})
		wantReason(t, err, ctf.ReasonInstanceExists)
		_, _, err = e.store.ReservePooled(t.Context(), c)
		check(t, err)
	}
	e.wantDue(t, id)
}

// testSourceWithoutInstances: what leads to the instances of a source goes with
// them, although nobody asks for it.
func testSourceWithoutInstances(t *testing.T, e env) {
	ctx := t.Context()
	wantHints := func(want ...string) {
		t.Helper()
		e.wantDue(t)
		var left []string
		for _, k := range e.allKeys(t) {
			if strings.HasPrefix(k, "mayfly:source:") {
				left = append(left, e.raw.HKeys(ctx, k).Val()...)
			}
		}
		if d := cmp.Diff(want, left); d != "" {
			t.Error(d)
		}
	}
	one, other := e.create(t, newChallenge("one")), e.create(t, newChallenge("other"))
	ended, lasting := e.started(t, one, alice).Key.Identity, e.started(t, other, alice).Key.Identity
	_, _, err := e.store.DeleteInstance(ctx, one, alice)
	check(t, err)
	e.destroy(t, one, ended)
	e.store.Shift(3 * time.Minute)
	wantHints("other")

	e.store.Shift(time.Hour)
	wantHints("other")
	d, _, err := e.store.DeleteChallenge(ctx, other)
	check(t, err)
	e.destroy(t, other, lasting)
	_, err = e.store.RemoveChallenge(ctx, other, d.Incarnation)
	check(t, err)
	wantHints("other") // somebody may be about to create
	e.store.Shift(3 * time.Minute)
	wantHints()
}

func testDuePages(t *testing.T, e env) {
	c := e.timed(t, time.Minute)
	want := map[ctf.Identity]bool{}
	for n := range 250 {
		want[e.started(t, c, ctf.SourceID(fmt.Sprint(n))).Key.Identity] = true
	}
	e.store.Shift(61 * time.Second)
	for _, id := range e.due(t) {
		delete(want, id)
	}
	if len(want) != 0 {
		t.Fatalf("%d were forgotten", len(want))
	}
	if n := len(collect(t, e.store.Claimed(t.Context(), c))); n != 0 {
		t.Fatalf("%d are still seen", n)
	}
}

// testOneBadChallengeDoesNotBlock: what can't be read or belongs to a newer
// version is passed over.
func testOneBadChallengeDoesNotBlock(t *testing.T, e env) {
	ctx := t.Context()
	bad := e.create(t, newChallenge("bad"))
	e.started(t, bad, alice)
	for _, k := range e.allKeys(t) {
		if strings.HasSuffix(k, "}:c") {
			check(t, e.raw.HSet(ctx, k, "schema", "9").Err())
		}
	}
	const newer = 120
	for n := range newer / 2 {
		for _, member := range []string{"from the future %d", `- ["later","default","other","%d"]`} {
			check(t, e.raw.ZAdd(ctx, "mayfly:due", goredis.Z{Score: 1, Member: fmt.Sprintf(member, n)}).Err())
		}
	}
	id := e.started(t, e.timed(t, time.Second), alice).Key.Identity
	e.store.Shift(time.Hour)
	var got []ctf.Identity
	failures := 0
	for k, err := range e.store.Due(ctx) {
		if err != nil {
			failures++
			continue
		}
		got = append(got, k.Identity)
	}
	if d := cmp.Diff([]ctf.Identity{id}, got); d != "" || failures != 1 {
		t.Fatal(d, failures)
	}
	if n := e.raw.ZCount(ctx, "mayfly:due", "1", "1").Val(); n != newer {
		t.Errorf("of %d entries of a newer version, %d are left", newer, n)
	}
}

func testRecorded(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("one"))
	id := e.started(t, c, alice).Key.Identity
	var keys []ctf.InstanceKey
	for range 250 { // more than a page
		keys = append(keys, ctf.InstanceKey{Challenge: c, Identity: ctf.NewIdentity()})
	}
	keys[0].Identity, keys[240].Identity = id, id
	keys[1] = ctf.InstanceKey{Challenge: key("unknown"), Identity: id}
	found, err := e.store.Recorded(ctx, keys)
	check(t, err)
	for n, ok := range found {
		if want := n == 0 || n == 240; ok != want {
			t.Errorf("%d of %d: recorded is %v", n, len(found), ok)
		}
	}
	if _, d, err := e.store.DeleteInstance(ctx, c, alice); !d.First || err != nil {
		t.Fatal(d, err)
	}
	for _, want := range []bool{true, false} { // one that is deleting is on record until it is forgotten
		found, err := e.store.Recorded(ctx, keys[:1])
		check(t, err)
		if found[0] != want {
			t.Errorf("recorded is %v, want %v", found[0], want)
		}
		if want {
			e.destroy(t, c, id)
		}
	}
}

func testInstallation(t *testing.T, e env) {
	name, err := e.store.Installation(t.Context())
	check(t, err)
	again, err := open(t, e.url, e.keys, 0).Installation(t.Context())
	check(t, err)
	if name == "" || again != name {
		t.Errorf("the installation is %q, then %q", name, again)
	}
}

func testRepairIndexes(t *testing.T, e env) {
	ctx := t.Context()
	c := e.timed(t, time.Minute)
	id := e.started(t, c, alice).Key.Identity
	for _, k := range e.allKeys(t) {
		if !strings.Contains(k, "{") {
			check(t, e.raw.Del(ctx, k).Err())
		}
	}
	if all := collect(t, e.store.Challenges(ctx, tenant)); len(all) != 0 {
		t.Fatal(all)
	}
	check(t, e.store.RepairIndexes(ctx, c))
	if all := collect(t, e.store.Challenges(ctx, tenant)); len(all) != 1 {
		t.Fatal(all)
	}
	if mine := collect(t, e.store.BySource(ctx, tenant, alice)); len(mine) != 1 {
		t.Fatal(mine)
	}
	if tenants := collect(t, e.store.Tenants(ctx)); len(tenants) != 1 {
		t.Fatal(tenants)
	}
	e.store.Shift(3 * time.Minute)
	e.wantDue(t, id)
	check(t, e.store.RepairIndexes(ctx, key("unknown")))
}

func testManyPages(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	for n := range 700 {
		e.reserve(t, c, ctf.SourceID(fmt.Sprint(n)))
	}
	seen := map[ctf.Identity]int{}
	for _, entry := range collect(t, e.store.All(ctx, c)) {
		seen[entry.Instance.Key.Identity]++
		if entry.Leased || entry.Age < 0 || entry.Age > time.Minute {
			t.Fatalf("%+v", entry)
		}
	}
	if len(seen) != 700 {
		t.Fatalf("%d instances", len(seen))
	}
	for range e.store.All(ctx, c) {
		break // a reader may stop
	}
}
