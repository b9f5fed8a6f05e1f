package redis_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestRestoreEveryState takes a snapshot of instances in every state, empties
// Redis and restores. All is as it was, but for those who were at work and for
// the pool, which is to be destroyed.
func TestRestoreEveryState(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := newCrowd(t, newEnv(t, redistest.Start(t)))
	name, err := c.store.Installation(ctx)
	check(t, err)
	check(t, c.leases["half"].Journal(ctf.Pending).Append(ctx, []byte("of the half")))
	all, before := collect(t, c.store.Snapshots(ctx)), c.restorable(t)
	states := map[ctf.State]int{}
	for _, entry := range collect(t, c.store.All(ctx, c.key)) {
		states[entry.Instance.State]++
	}
	want := map[ctf.State]int{ctf.Pending: 3, ctf.Ready: 2, ctf.Updating: 1, ctf.Failed: 1, ctf.Deleting: 1}
	if d := cmp.Diff(want, states); d != "" {
		t.Fatal(d)
	}

	check(t, c.raw.FlushAll(ctx).Err())
	c.restore(t, all, name)
	if d := cmp.Diff(before, c.restorable(t)); d != "" {
		t.Error(d)
	}
	c.checkLists(t, c.key)
	for of, lease := range c.leases {
		if err := lease.Journal(ctf.Pending).Append(ctx, []byte("late")); !errors.Is(err, ctf.ErrLeaseLost) {
			t.Errorf("who held the lease of %s before writes on: %v", of, err)
		}
	}
	for _, entry := range collect(t, c.store.All(ctx, c.key)) {
		l := c.lease(t, c.key, entry.Instance.Key.Identity)
		w, err := l.Load(ctx)
		check(t, err)
		if half := c.names["half"]; entry.Instance.Key.Identity == half {
			if d := cmp.Diff([][]byte{[]byte("of the half")}, w.Checkpoint.Journal); d != "" {
				t.Error(d)
			}
		}
		l.Release()
	}
	c.deploy(t, c.key, c.names["half"]) // switches
	if i, err := c.store.Instance(ctx, c.key, "updating"); err != nil || i.Key.Identity != c.names["half"] {
		t.Errorf("after the switch: %+v, %v", i, err)
	}
	for _, id := range []ctf.Identity{c.names["pooled"], c.names["pooled later"]} {
		if i, _ := c.find(t, c.key, id); i.State != ctf.Deleting {
			t.Errorf("%s, which was in the pool, is %q", id, i.State)
		}
	}
	c.bringToItsEnd(t, c.key)
}

// restore does what a restore of these snapshots does.
func (e env) restore(t *testing.T, all []redis.Snapshot, name string) {
	t.Helper()
	ctx := t.Context()
	check(t, e.store.BeginRestore(ctx, "backup"))
	for _, s := range all {
		e.restoreOne(t, s)
	}
	check(t, e.store.EndRestore(ctx, "backup", name))
}

func (e env) restoreOne(t *testing.T, s redis.Snapshot) ctf.ChallengeKey {
	t.Helper()
	k, err := e.store.CheckChallenge(s)
	check(t, err)
	var ids []string
	for _, i := range s.Instances {
		check(t, e.store.CheckInstance(k, i))
		ids = append(ids, i.Identity())
	}
	check(t, e.store.RestoreInstances(t.Context(), k, s.Instances))
	check(t, e.store.RestoreChallenge(t.Context(), k, s, ids))
	return k
}

// restorable is all that a restore brings back, as it does: without leases,
// deletions, outboxes and hints, whose times are new, without numbers that go on
// elsewhere, and without what no source holds.
func (e env) restorable(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{}
	e.onEach(t, func(ctx context.Context, c *goredis.Client) error {
		keys, err := c.Keys(ctx, "mayfly:{*").Result()
		for _, k := range keys {
			switch c.Type(ctx, k).Val() {
			case "hash":
				record := c.HGetAll(ctx, k).Val()
				if record["identity"] != "" && record["source"] == "" {
					continue
				}
				maps.DeleteFunc(record, func(name, _ string) bool { return name == "fence" || name == "revision" })
				all[k] = record
			case "string":
				if !strings.Contains(k, "}:l:") && !strings.Contains(k, "}:t:") {
					all[k] = c.Get(ctx, k).Val()
				}
			case "list":
				if !strings.HasSuffix(k, "}:p") {
					all[k] = c.LRange(ctx, k, 0, -1).Val()
				}
			case "set":
				if !strings.HasSuffix(k, "}:q") {
					all[k] = slices.Sorted(slices.Values(c.SMembers(ctx, k).Val()))
				}
			case "zset":
				all[k] = slices.DeleteFunc(c.ZRangeWithScores(ctx, k, 0, -1).Val(), func(z goredis.Z) bool {
					return c.HGet(ctx, strings.TrimSuffix(k, "d")+"i:"+z.Member.(string), "source").Val() == ""
				})
			}
		}
		return err
	})
	return all
}

func (e env) flush(t *testing.T) {
	t.Helper()
	e.onEach(t, func(ctx context.Context, c *goredis.Client) error { return c.FlushAll(ctx).Err() })
}

// bringToItsEnd deletes a challenge with all that it has; nothing is left.
func (e env) bringToItsEnd(t *testing.T, c ctf.ChallengeKey) {
	t.Helper()
	d, ids, err := e.store.DeleteChallenge(t.Context(), c)
	check(t, err)
	e.checkLists(t, c)
	for _, id := range ids {
		e.destroy(t, c, id)
	}
	if removed, err := e.store.RemoveChallenge(t.Context(), c, d.Incarnation); err != nil || !removed {
		t.Fatal(removed, err)
	}
	for _, k := range e.allKeys(t) {
		if strings.Contains(k, "}:") && !strings.HasPrefix(k, "{") && !outlives(k) {
			t.Errorf("%s is left", k)
		}
	}
}

// testRestore: challenges in several slots, each there at once and as a whole.
func testRestore(t *testing.T, e env) {
	ctx := t.Context()
	name, err := e.store.Installation(ctx)
	check(t, err)
	var keys []ctf.ChallengeKey
	ends := map[ctf.ChallengeKey]*time.Time{}
	for n := range 8 {
		c := newChallenge(fmt.Sprint("c", n))
		c.Timeout, c.Additional = new(time.Hour), map[string]string{"n": fmt.Sprint(n)}
		keys = append(keys, e.create(t, c))
		ends[c.Key] = e.started(t, c.Key, alice).Until
		e.reserve(t, c.Key, "bob")
	}
	all, before := collect(t, e.store.Snapshots(ctx)), e.restorable(t)
	if len(all) != len(keys) {
		t.Fatalf("%d snapshots, want %d", len(all), len(keys))
	}
	wantError(t, e.store.BeginRestore(ctx, "backup"), redis.ErrInUse)
	if again, err := e.store.Installation(ctx); again != name || err != nil {
		t.Fatalf("the installation is %q, was %q: %v", again, name, err)
	}

	e.flush(t)
	check(t, e.raw.Set(ctx, "somebody else's mayfly:", "1", 0).Err())
	check(t, e.store.BeginRestore(ctx, "backup"))
	for n := range 3 {
		e.restoreOne(t, all[n])
	}
	dead := all[3] // whoever restores dies before the last step
	k, err := e.store.CheckChallenge(dead)
	check(t, err)
	check(t, e.store.RestoreInstances(ctx, k, dead.Instances))
	_, err = e.store.Challenge(ctx, k)
	wantReason(t, err, ctf.ReasonChallengeNotFound)
	if there := collect(t, e.store.Challenges(ctx, tenant)); len(there) != 3 {
		t.Errorf("%d challenges are there, want 3", len(there))
	}
	_, err = e.store.Installation(ctx)
	wantReason(t, err, ctf.ReasonUnavailable)
	_, err = e.store.Named(ctx)
	wantReason(t, err, ctf.ReasonUnavailable)
	_, err = e.store.Recorded(ctx, []ctf.InstanceKey{{Challenge: k, Identity: "unknown"}})
	wantReason(t, err, ctf.ReasonUnavailable)
	wantError(t, e.store.BeginRestore(ctx, "another"), redis.ErrInUse)

	e.restore(t, all, name)
	if d := cmp.Diff(before, e.restorable(t)); d != "" {
		t.Error(d)
	}
	if again, err := e.store.Installation(ctx); again != name || err != nil {
		t.Errorf("the installation is %q, was %q: %v", again, name, err)
	}
	if there := collect(t, e.store.Challenges(ctx, tenant)); len(there) != len(keys) {
		t.Errorf("%d challenges are there, want %d", len(there), len(keys))
	}
	mine := collect(t, e.store.BySource(ctx, tenant, alice))
	if len(mine) != len(keys) {
		t.Errorf("alice has %d instances, had %d", len(mine), len(keys))
	}
	for _, i := range mine {
		if d := cmp.Diff(ends[i.Key.Challenge], i.Until); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(result(i.Key.Identity).Flags, i.Flags); d != "" {
			t.Error(d)
		}
	}
	e.store.Shift(61 * time.Minute)
	if due := e.due(t); len(due) != len(keys) {
		t.Errorf("%d are due, want %d", len(due), len(keys))
	}
}

// testRestoreIntoUse: what uses a Redis into which is restored spoils nothing.
func testRestoreIntoUse(t *testing.T, e env) {
	ctx := t.Context()
	name, err := e.store.Installation(ctx)
	check(t, err)
	c := e.create(t, newChallenge("c"))
	id := e.started(t, c, alice).Key.Identity
	running := []ctf.InstanceKey{{Challenge: c, Identity: id}}
	all := collect(t, e.store.Snapshots(ctx))
	e.flush(t)
	if found, err := e.store.Recorded(ctx, running); err == nil {
		t.Errorf("Redis was emptied, and what runs is taken for %v", found)
	}
	e.create(t, newChallenge("c"))
	wantError(t, e.store.BeginRestore(ctx, "backup"), redis.ErrInUse)
	e.flush(t)
	check(t, e.store.BeginRestore(ctx, "backup"))
	e.create(t, newChallenge("c"))
	check(t, e.store.RestoreInstances(ctx, c, all[0].Instances))
	wantError(t, e.store.RestoreChallenge(ctx, c, all[0], nil), redis.ErrInUse)

	e.flush(t)
	check(t, e.store.BeginRestore(ctx, "backup"))
	if err := e.store.RestoreChallenge(ctx, c, all[0], []string{string(id)}); err == nil {
		t.Error("a challenge is restored without an instance that it has")
	}
	e.flush(t)
	if err := e.store.EndRestore(ctx, "backup", name); err == nil {
		t.Error("what was restored is gone, and nobody is told")
	}
	e.restore(t, all, name)
	if found, err := e.store.Recorded(ctx, running); err != nil || !found[0] {
		t.Errorf("what runs is recorded: %v, %v", found, err)
	}
}

// TestSnapshotsWhileWorking takes snapshots while every verb is called at once.
// Each challenge of each snapshot can be restored, and its records agree.
func TestSnapshotsWhileWorking(t *testing.T) {
	t.Parallel()
	e, target := newEnv(t, redistest.Start(t)), newEnv(t, redistest.Start(t))
	target.store = open(t, target.url, e.keys, 0)
	c := newChallenge("c")
	c.Timeout, c.Pool = new(time.Hour), ctf.Pool{Min: 3, Max: 8}
	e.create(t, c)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(2, uint64(worker)))
		group.Go(func() {
			for ctx.Err() == nil {
				if err := e.anyVerb(t.Context(), c.Key, random); err != nil && !expected(err) {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := e.comeAndGo(t.Context(), newChallenge(fmt.Sprint("other ", n%5))); err != nil {
				t.Error(err)
			}
		}
	})
	restored := 0
	for range 30 {
		for _, s := range collect(t, e.store.Snapshots(t.Context())) {
			target.flush(t)
			check(t, target.store.BeginRestore(t.Context(), "backup"))
			k := target.restoreOne(t, s)
			target.checkLists(t, k)
			target.bringToItsEnd(t, k)
			restored++
		}
	}
	stop()
	group.Wait()
	if restored < 35 {
		t.Errorf("only %d challenges were restored: the snapshots show too little", restored)
	}
}

// comeAndGo creates a challenge with an instance, and deletes both.
func (e env) comeAndGo(ctx context.Context, c ctf.Challenge) error {
	if err := e.store.CreateChallenge(ctx, c); err != nil {
		return err
	}
	if _, err := e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c.Key, Source: alice}); err != nil {
		return err
	}
	d, ids, err := e.store.DeleteChallenge(ctx, c.Key)
	if err != nil {
		return err
	}
	for _, id := range ids {
		l, err := e.store.Lease(ctx, ctf.InstanceKey{Challenge: c.Key, Identity: id})
		if err != nil {
			return err
		}
		err = l.Forget(ctx)
		l.Release()
		if err != nil {
			return err
		}
	}
	_, err = e.store.RemoveChallenge(ctx, c.Key, d.Incarnation)
	return err
}
