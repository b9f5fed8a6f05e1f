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
	// deletion is that of the instance that is deleting, with the challenge's incarnation.
	deletion ctf.Deletion
	names    map[string]ctf.Identity
	leases   map[string]ctf.Lease
	works    map[string]ctf.Work
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
	for _, source := range []ctf.SourceID{"updating", "failed"} {
		c.names[string(source)] = e.started(t, c.key, source).Key.Identity
	}
	e.update(t, c.key, newDigest(ctf.BlueGreen))
	c.names["ready"] = e.started(t, c.key, "ready").Key.Identity
	c.names["pending"] = e.reserve(t, c.key, "pending").Instance.Key.Identity
	c.names["deleting"] = e.started(t, c.key, "deleting").Key.Identity
	_, c.deletion, err = e.store.DeleteInstance(ctx, c.key, "deleting")
	check(t, err)
	c.deletion.Incarnation = stored.Incarnation
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
	for _, name := range []string{"deleting", "half", "pending", "pooled later", "ready"} {
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
	all := c.env.steps(c.key, c.deletion, c.names)
	for name, lease := range c.leases {
		all["deployed "+name] = func(ctx context.Context) error { _, err := lease.Deployed(ctx, c.works[name], result("1")); return err }
		all["abandon "+name] = func(ctx context.Context) error { return lease.Abandon(ctx, ctf.Deleting, "broken") }
		all["lost "+name] = func(ctx context.Context) error { return lease.Lose(ctx, c.works[name], ctf.Deleting, "gone") }
		all["strip "+name] = lease.Strip
		all["excuse "+name] = func(ctx context.Context) error { return lease.Excuse(ctx, c.works[name]) }
		all["append "+name] = func(ctx context.Context) error { return lease.Journal(ctf.Pending).Append(ctx, []byte("entry")) }
		all["rebase "+name] = func(ctx context.Context) error { return lease.Journal(ctf.Pending).Rebase(ctx, []byte("base")) }
		all["replacement "+name] = func(ctx context.Context) error { _, err := lease.Replacement(ctx); return err }
		all["forget "+name] = lease.Forget
	}
	return all
}

// steps are all that need no lease, on a challenge and on what sources have of it.
func (e env) steps(c ctf.ChallengeKey, d ctf.Deletion, has map[string]ctf.Identity) map[string]step {
	change := func(change ctf.ChallengeChange) step {
		return func(ctx context.Context) error { _, err := e.store.UpdateChallenge(ctx, c, change); return err }
	}
	inPlace, blueGreen := newDigest(ctf.InPlace), newDigest(ctf.BlueGreen)
	inPlace.Scenario.Digest, blueGreen.Scenario.Digest = "sha256:3", "sha256:4"
	all := map[string]step{
		"update in place":   change(inPlace),
		"update blue-green": change(blueGreen),
		"update of terms":   change(ctf.ChallengeChange{SetTimeout: true, Timeout: new(time.Minute)}),
		"update of pool":    change(ctf.ChallengeChange{SetMin: true, SetMax: true}),
		"delete challenge":  func(ctx context.Context) error { _, _, err := e.store.DeleteChallenge(ctx, c); return err },
		"disown challenge": func(ctx context.Context) error {
			return e.store.DisownChallenge(ctx, c, d, slices.Collect(maps.Values(has)))
		},
		"remove challenge": func(ctx context.Context) error { _, err := e.store.RemoveChallenge(ctx, c, d.Incarnation); return err },
		"hand on":          func(ctx context.Context) error { return e.store.HandOn(ctx, c) },
		"fill pool":        func(ctx context.Context) error { _, _, err := e.store.ReservePooled(ctx, c); return err },
		"expire":           func(ctx context.Context) error { return first(e.store.Due(ctx)) },
	}
	for name, id := range has {
		source := ctf.SourceID(name)
		all["create "+name] = func(ctx context.Context) error {
			_, err := e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: source})
			return err
		}
		all["renew "+name] = func(ctx context.Context) error { _, err := e.store.Renew(ctx, c, source); return err }
		all["delete "+name] = func(ctx context.Context) error { _, _, err := e.store.DeleteInstance(ctx, c, source); return err }
		all["disown "+name] = func(ctx context.Context) error {
			return e.store.DisownInstance(ctx, ctf.InstanceKey{Challenge: c, Identity: id}, d)
		}
	}
	return all
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
