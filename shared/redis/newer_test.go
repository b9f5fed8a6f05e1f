package redis_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestNewerRecords makes one record newer than this code, and takes each step
// of each verb: a step that meets the record is refused before it changes
// anything, and no other changes that record.
func TestNewerRecords(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	refused, whole := 0, newCrowd(t, e)
	records, steps := whole.records(t), whole.steps()
	for step := range steps {
		for record := range records {
			t.Run(record+"/"+step, func(t *testing.T) {
				c := newCrowd(t, e)
				k := c.records(t)[record]
				take := c.steps()[step]
				check(t, e.raw.HSet(t.Context(), k, "schema", "2").Err())
				before, one := c.content(t), e.raw.HGetAll(t.Context(), k).Val()
				err := take(t.Context())
				if err != nil && strings.Contains(err.Error(), "newer version") {
					refused++
					if now := c.content(t); !maps.Equal(now, before) {
						t.Errorf("it was refused half-way: %v", changes(before, now))
					}
				}
				if now := e.raw.HGetAll(t.Context(), k).Val(); !maps.Equal(now, one) {
					t.Errorf("the record is changed: %v", changes(one, now))
				}
			})
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// A crowd is a challenge with instances in every state.
type crowd struct {
	env

	key ctf.ChallengeKey
	// incarnation is that of the challenge.
	incarnation string
	names       map[string]ctf.Identity
	leases      map[string]ctf.Lease
	works       map[string]ctf.Work
}

func newCrowd(t *testing.T, e env) *crowd {
	t.Helper()
	ctx := t.Context()
	check(t, e.raw.FlushAll(ctx).Err())
	challenge := newChallenge("c")
	challenge.Timeout, challenge.Pool = new(time.Hour), ctf.Pool{Min: 2}
	c := &crowd{env: e, key: e.create(t, challenge), names: map[string]ctf.Identity{}, leases: map[string]ctf.Lease{}, works: map[string]ctf.Work{}}
	stored, err := e.store.Challenge(ctx, c.key)
	check(t, err)
	c.incarnation = stored.Incarnation
	for _, source := range []ctf.SourceID{"updating", "failed"} {
		c.names[string(source)] = e.started(t, c.key, source).Key.Identity
	}
	e.update(t, c.key, newDigest(ctf.BlueGreen))
	c.names["ready"] = e.started(t, c.key, "ready").Key.Identity
	c.names["pending"] = e.reserve(t, c.key, "pending").Instance.Key.Identity
	c.names["pooled"] = e.pooled(t, c.key)
	e.deploy(t, c.key, c.names["pooled"])
	c.names["pooled later"] = e.pooled(t, c.key)
	failed := e.lease(t, c.key, c.names["failed"])
	check(t, failed.Abandon(ctx, ctf.Failed, "broken"))
	failed.Release()
	updating := e.lease(t, c.key, c.names["updating"])
	half, err := updating.Replacement(ctx)
	check(t, err)
	c.names["half"], c.leases["updating"] = half, updating
	for _, name := range []string{"half", "pending", "pooled later", "ready"} {
		c.leases[name] = e.lease(t, c.key, c.names[name])
	}
	for name, lease := range c.leases {
		c.works[name], err = lease.Load(ctx)
		check(t, err)
	}
	return c
}

// records are the keys of what may be newer.
func (c *crowd) records(t *testing.T) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, k := range c.allKeys(t) {
		if strings.HasSuffix(k, "}:c") {
			keys["challenge"] = k
		}
		for name, id := range c.names {
			if strings.HasSuffix(k, "}:i:"+string(id)) {
				keys[name] = k
			}
		}
	}
	if len(keys) != 1+len(c.names) {
		t.Fatalf("found %v", keys)
	}
	return keys
}

// A step is one of a verb.
type step = func(context.Context) error

func (c *crowd) steps() map[string]step {
	inPlace := newDigest(ctf.InPlace)
	inPlace.Scenario.Digest = "sha256:3"
	all := map[string]step{
		"update in place":  c.change(inPlace),
		"update of terms":  c.change(ctf.ChallengeChange{SetTimeout: true, Timeout: new(time.Minute)}),
		"update of pool":   c.change(ctf.ChallengeChange{SetMin: true}),
		"delete challenge": func(ctx context.Context) error { _, _, err := c.store.DeleteChallenge(ctx, c.key); return err },
		"remove challenge": func(ctx context.Context) error {
			_, err := c.store.RemoveChallenge(ctx, c.key, c.incarnation)
			return err
		},
		"hand on":   func(ctx context.Context) error { return c.store.HandOn(ctx, c.key) },
		"fill pool": func(ctx context.Context) error { _, _, err := c.store.ReservePooled(ctx, c.key); return err },
		"expire":    func(ctx context.Context) error { return first(c.store.Due(ctx)) },
	}
	for name := range c.names {
		c.addSource(all, ctf.SourceID(name))
	}
	for name, lease := range c.leases {
		all["deployed "+name] = func(ctx context.Context) error { _, err := lease.Deployed(ctx, c.works[name], result("1")); return err }
		all["abandon "+name] = func(ctx context.Context) error { return lease.Abandon(ctx, ctf.Deleting, "broken") }
		all["lost "+name] = func(ctx context.Context) error { return lease.Lose(ctx, c.works[name], ctf.Deleting, "gone") }
		all["append "+name] = func(ctx context.Context) error { return lease.Journal(ctf.Pending).Append(ctx, []byte("entry")) }
		all["rebase "+name] = func(ctx context.Context) error { return lease.Journal(ctf.Pending).Rebase(ctx, []byte("base")) }
		all["replacement "+name] = func(ctx context.Context) error { _, err := lease.Replacement(ctx); return err }
		all["forget "+name] = lease.Forget
	}
	return all
}

func (c *crowd) addSource(all map[string]step, source ctf.SourceID) {
	all["create "+string(source)] = func(ctx context.Context) error {
		_, err := c.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c.key, Source: source})
		return err
	}
	all["renew "+string(source)] = func(ctx context.Context) error { _, err := c.store.Renew(ctx, c.key, source); return err }
	all["delete "+string(source)] = func(ctx context.Context) error {
		_, _, err := c.store.DeleteInstance(ctx, c.key, source)
		return err
	}
}

func (c *crowd) change(change ctf.ChallengeChange) step {
	return func(ctx context.Context) error { _, err := c.store.UpdateChallenge(ctx, c.key, change); return err }
}

// first reads to the first error.
func first[T any](all iter.Seq2[T, error]) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// content is all of the challenge but for leases, which are refreshed all the time.
func (c *crowd) content(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	keys := slices.DeleteFunc(c.allKeys(t), func(k string) bool { return !strings.HasPrefix(k, "mayfly:{") || strings.Contains(k, "}:l:") })
	for _, k := range keys {
		all[k] = c.raw.Dump(t.Context(), k).Val()
	}
	return all
}

func changes(before, after map[string]string) []string {
	var names []string
	for name := range maps.Keys(after) {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
