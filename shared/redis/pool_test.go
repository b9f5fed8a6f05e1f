package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// testPoolRule are the rows of the contract's table (§2.11).
func testPoolRule(t *testing.T, e env) {
	for _, row := range []struct {
		name                                       string
		min, max, claimed, pooled, create, destroy int
	}{
		{"min-decrease", 1, 0, 0, 3, 0, 2},
		{"min-increase", 3, 0, 0, 1, 2, 0},
		{"max-increase", 2, 6, 1, 2, 0, 0},
		{"max-increase-new-room", 2, 6, 2, 1, 1, 0},
		{"max-decrease", 2, 2, 1, 2, 0, 1},
		{"max-decrease-enough-room", 2, 4, 1, 2, 0, 0},
		{"pool-empty-until", 2, 4, 0, 0, 2, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newChallenge(row.name)
			c.Pool.Min = int64(row.pooled)
			e.create(t, c)
			for n := range row.claimed {
				e.started(t, c.Key, ctf.SourceID(fmt.Sprint(n)))
			}
			for range row.pooled {
				e.deploy(t, c.Key, e.pooled(t, c.Key))
			}
			u := e.update(t, c.Key, ctf.ChallengeChange{
				SetMin: true, SetMax: true, Pool: ctf.Pool{Min: int64(row.min), Max: int64(row.max)},
			})
			created := 0
			for {
				_, ok, err := e.store.ReservePooled(t.Context(), c.Key)
				check(t, err)
				if !ok {
					break
				}
				created++
			}
			if created != row.create || len(u.Deleting) != row.destroy {
				t.Errorf("created %d, want %d; destroyed %d, want %d", created, row.create, len(u.Deleting), row.destroy)
			}
		})
	}
}

// testFailedPoolRests: a pool whose deployment failed wants no other at once,
// unless the challenge was updated.
func testFailedPoolRests(t *testing.T, e env) {
	c := newChallenge("c")
	c.Pool.Min = 2
	e.create(t, c)
	fail := func() {
		t.Helper()
		id := e.pooled(t, c.Key)
		l := e.lease(t, c.Key, id)
		check(t, l.Abandon(t.Context(), ctf.Deleting, "it went wrong"))
		check(t, l.Forget(t.Context()))
		l.Release()
		if _, ok, err := e.store.ReservePooled(t.Context(), c.Key); err != nil || ok {
			t.Errorf("the pool wants another at once: %v %v", ok, err)
		}
	}
	fail()
	e.store.Shift(31 * time.Second)
	fail()
	e.update(t, c.Key, ctf.ChallengeChange{})
	fail()
	e.update(t, c.Key, newDigest(ctf.InPlace))
	e.deploy(t, c.Key, e.pooled(t, c.Key))
	e.pooled(t, c.Key)

	// What a source failed at says nothing of the pool, nor keeps it from a claim.
	e.update(t, c.Key, ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: 3}})
	if r := e.reserve(t, c.Key, alice); !r.Claimed {
		t.Errorf("%+v, want a claimed one", r)
	}
	cold := e.reserve(t, c.Key, "bob").Instance.Key.Identity
	l := e.lease(t, c.Key, cold)
	check(t, l.Abandon(t.Context(), ctf.Deleting, "it went wrong"))
	l.Release()
	e.pooled(t, c.Key)
}

func testSurplusPrefersPending(t *testing.T, e env) {
	c := newChallenge("c")
	c.Pool.Min = 3
	e.create(t, c)
	oldest, newest, pending := e.pooled(t, c.Key), e.pooled(t, c.Key), e.pooled(t, c.Key)
	e.deploy(t, c.Key, oldest)
	e.deploy(t, c.Key, newest)
	less := func(n int64) []ctf.Identity {
		return e.update(t, c.Key, ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: n}}).Deleting
	}
	if d := cmp.Diff([]ctf.Identity{pending}, less(2)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]ctf.Identity{newest}, less(1)); d != "" {
		t.Error(d)
	}
	if r := e.reserve(t, c.Key, "bob"); r.Instance.Key.Identity != oldest {
		t.Errorf("claimed %+v", r)
	}
}

func testOneOfManyReserves(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	var mu sync.Mutex
	outcomes := map[ctf.Reason]int{}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			_, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice})
			mu.Lock()
			defer mu.Unlock()
			outcomes[ctf.ReasonOf(err)]++
		})
	}
	group.Wait()
	if d := cmp.Diff(map[ctf.Reason]int{"": 1, ctf.ReasonInstanceExists: 49}, outcomes); d != "" {
		t.Fatal(d)
	}
}

func testClaimsNeverShare(t *testing.T, e env) {
	c := newChallenge("c")
	c.Pool.Min = 20
	e.create(t, c)
	for range 20 {
		e.deploy(t, c.Key, e.pooled(t, c.Key))
	}
	var mu sync.Mutex
	holders, claims := map[ctf.Identity]int{}, 0
	var group sync.WaitGroup
	for n := range 200 {
		group.Go(func() {
			r, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c.Key, Source: ctf.SourceID(fmt.Sprint(n))})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			holders[r.Instance.Key.Identity]++
			if r.Claimed {
				claims++
			}
		})
	}
	group.Wait()
	if len(holders) != 200 || claims != 20 {
		t.Fatalf("200 sources hold %d instances, %d of them claimed", len(holders), claims)
	}
}

func testIdempotencyKey(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	reserve := func(k string) (ctf.Reservation, error) {
		return e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice, IdempotencyKey: k})
	}
	first, err := reserve("k")
	check(t, err)
	again, err := reserve("k")
	check(t, err)
	if !again.Attached || again.Instance.Key != first.Instance.Key || again.Instance.State != ctf.Pending {
		t.Fatalf("again: %+v", again)
	}
	e.deploy(t, c, first.Instance.Key.Identity)
	if again, err = reserve("k"); err != nil || !again.Attached || again.Instance.State != ctf.Ready {
		t.Fatalf("once ready: %+v, %v", again, err)
	}
	_, err = reserve("")
	wantReason(t, err, ctf.ReasonInstanceExists)
}

// What must not be deployed is refused without a trace, and what is ready is
// given out.
func testReadyOnly(t *testing.T, e env) {
	challenge := newChallenge("c")
	challenge.Pool.Min = 1
	c := e.create(t, challenge)
	before := e.allKeys(t)
	_, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice, ReadyOnly: true})
	if !errors.Is(err, ctf.ErrNoneReady) {
		t.Fatalf("got %v", err)
	}
	after := e.allKeys(t)
	slices.Sort(before)
	slices.Sort(after)
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("it left something: %s", d)
	}
	id := e.pooled(t, c)
	e.deploy(t, c, id)
	r, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice, ReadyOnly: true})
	if err != nil || !r.Claimed || r.Instance.Key.Identity != id {
		t.Fatalf("%+v, %v", r, err)
	}
	if found := collect(t, e.store.BySource(t.Context(), tenant, alice)); len(found) != 1 {
		t.Errorf("by source: %v", found)
	}
}

// testRestoreEmptiesThePool: a source may have claimed what is in the pool of a
// snapshot, and so nobody else gets it. All of it is destroyed and made anew.
func testRestoreEmptiesThePool(t *testing.T, e env) {
	ctx := t.Context()
	name, err := e.store.Installation(ctx)
	check(t, err)
	c := newChallenge("c")
	c.Pool = ctf.Pool{Min: 3, Max: 4}
	e.create(t, c)
	e.started(t, c.Key, "bob")
	old := []ctf.Identity{e.pooled(t, c.Key), e.pooled(t, c.Key), e.pooled(t, c.Key)}
	for _, id := range old[:2] {
		e.deploy(t, c.Key, id)
	}
	all := collect(t, e.store.Snapshots(ctx))
	if r := e.reserve(t, c.Key, alice); r.Instance.Key.Identity != old[0] {
		t.Fatalf("the pool gives %+v", r)
	}

	e.flush(t)
	e.restore(t, all, name)
	if r := e.reserve(t, c.Key, "carol"); r.Claimed || slices.Contains(old, r.Instance.Key.Identity) {
		t.Errorf("the pool gives %+v", r)
	}
	e.checkLists(t, c.Key)
	events, _, err := e.store.Pending(ctx, c.Key, "")
	check(t, err)
	if !slices.ContainsFunc(events, func(of ctf.Event) bool { return of.Type == ctf.ChallengeUnsettled }) {
		t.Errorf("nobody is told: %+v", events)
	}
	e.store.Shift(3 * time.Minute)
	due := e.due(t)
	slices.Sort(due)
	slices.Sort(old)
	if d := cmp.Diff(old, due); d != "" {
		t.Errorf("what is due: %s", d)
	}
	for _, id := range old {
		e.destroy(t, c.Key, id)
	}
	for range 2 { // of four, two are held
		if id := e.pooled(t, c.Key); slices.Contains(old, id) {
			t.Errorf("%s is made again", id)
		}
	}
	if _, more, err := e.store.ReservePooled(ctx, c.Key); more || err != nil {
		t.Errorf("the pool wants more: %v, %v", more, err)
	}
}
