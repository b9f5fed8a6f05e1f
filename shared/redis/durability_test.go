package redis_test

import (
	"context"
	"fmt"
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

// onEach runs f on every server.
func (e env) onEach(t testing.TB, f func(ctx context.Context, c *goredis.Client) error) {
	t.Helper()
	if cluster, ok := e.raw.(*goredis.ClusterClient); ok {
		var mu sync.Mutex
		check(t, cluster.ForEachMaster(t.Context(), func(ctx context.Context, c *goredis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return f(ctx, c)
		}))
		return
	}
	check(t, f(t.Context(), e.raw.(*goredis.Client)))
}

func (e env) allKeys(t testing.TB) []string {
	t.Helper()
	var all []string
	e.onEach(t, func(ctx context.Context, c *goredis.Client) error {
		keys, err := c.Keys(ctx, "*").Result()
		all = append(all, keys...)
		return err
	})
	slices.Sort(all)
	return all
}

// dump is all that Redis holds, as text to search.
func (e env) dump(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	e.onEach(t, func(ctx context.Context, c *goredis.Client) error {
		keys, err := c.Keys(ctx, "*").Result()
		for _, k := range keys {
			switch c.Type(ctx, k).Val() {
			case "hash":
				fmt.Fprint(&out, k, c.HGetAll(ctx, k).Val())
			case "string":
				fmt.Fprint(&out, k, c.Get(ctx, k).Val())
			case "list":
				fmt.Fprint(&out, k, c.LRange(ctx, k, 0, -1).Val())
			case "set":
				fmt.Fprint(&out, k, c.SMembers(ctx, k).Val())
			case "zset":
				fmt.Fprint(&out, k, c.ZRange(ctx, k, 0, -1).Val())
			case "stream":
				fmt.Fprint(&out, k, c.XRange(ctx, k, "-", "+").Val())
			default:
				t.Errorf("%s is of type %s", k, c.Type(ctx, k).Val())
			}
		}
		return err
	})
	return out.String()
}

func testScriptFlush(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	flush := func() {
		e.onEach(t, func(ctx context.Context, c *goredis.Client) error { return c.ScriptFlush(ctx).Err() })
	}
	flush()
	id := e.reserve(t, c, alice).Instance.Key.Identity
	flush()
	l := e.lease(t, c, id)
	flush()
	check(t, l.Journal(ctf.Pending).Append(t.Context(), []byte("one")))
	w, err := l.Load(t.Context())
	check(t, err)
	flush()
	_, err = l.Deployed(t.Context(), w, result(id))
	check(t, err)
	flush()
	if all := collect(t, e.store.BySource(t.Context(), tenant, alice)); len(all) != 1 {
		t.Fatal(all)
	}
}

func TestKilledRedisLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--appendonly", "yes", "--appendfsync", "always")
	e := newEnv(t, server.URL())
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	check(t, l.Journal(ctf.Pending).Append(t.Context(), []byte("one")))
	server.Restart()
	check(t, l.Journal(ctf.Pending).Append(t.Context(), []byte("two")))
	w, err := l.Load(t.Context())
	check(t, err)
	if d := cmp.Diff([][]byte{[]byte("one"), []byte("two")}, w.Checkpoint.Journal); d != "" {
		t.Fatal(d)
	}
	_, err = l.Deployed(t.Context(), w, result(id))
	check(t, err)
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, server.URL())
	c := e.create(t, newChallenge("c"))
	server.Kill()
	wantReason(t, e.store.Ping(t.Context()), ctf.ReasonUnavailable)
	_, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: alice})
	wantReason(t, err, ctf.ReasonUnavailable)
	for _, err := range e.store.Challenges(t.Context(), tenant) {
		wantReason(t, err, ctf.ReasonUnavailable)
	}
	_, err = redis.Open(t.Context(), redis.Options{URL: server.URL(), Keys: e.keys})
	wantReason(t, err, ctf.ReasonUnavailable)
}

// A Redis that takes no connections for a second is waited for.
func TestRedisStartsLate(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	server.Kill()
	store, err := redis.Open(t.Context(), redis.Options{URL: server.URL(), Keys: keys, Lazy: true})
	check(t, err)
	defer func() { check(t, store.Close()) }()
	answered := make(chan error)
	go func() { answered <- store.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Fatalf("answered while Redis was away: %v", err)
	case <-time.After(time.Second):
	}
	server.Restart()
	check(t, <-answered)
}

// A Redis that takes calls and answers none is away, too: whoever was at work
// tries again, and callers are told to.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, server.URL())
	c := e.create(t, newChallenge("c"))
	deploying := e.reserve(t, c, alice).Instance.Key.Identity
	working := e.lease(t, c, deploying)
	work, err := working.Load(t.Context())
	check(t, err)
	deleting := e.lease(t, c, e.reserve(t, c, "bob").Instance.Key.Identity)
	_, _, err = e.store.DeleteInstance(t.Context(), c, "bob")
	check(t, err)
	server.Pause()
	defer server.Resume()
	var calls sync.WaitGroup
	for what, call := range map[string]func() error{
		"ping": func() error { return e.store.Ping(t.Context()) },
		"open": func() error {
			_, err := redis.Open(t.Context(), redis.Options{URL: server.URL(), Keys: e.keys})
			return err
		},
		"deployed": func() error { _, err := working.Deployed(t.Context(), work, result(deploying)); return err },
		"abandon":  func() error { return working.Abandon(t.Context(), ctf.Deleting, "") },
		"lose":     func() error { return working.Lose(t.Context(), work, ctf.Ready, "") },
		"forget":   func() error { return deleting.Forget(t.Context()) },
		"append":   func() error { return working.Journal(ctf.Pending).Append(t.Context(), []byte("one")) },
	} {
		calls.Go(func() {
			if err := call(); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	calls.Wait()
}

func testHostileIDs(t *testing.T, e env) {
	ids := []string{
		"{}", "a}b{", "../../etc", "日本語 ☃", `"quoted"\`, "%s%d", "*", "a\x00b", "c", "c:", "mayfly:{c}:", "0", "-", "+x", "<&>\u2028", strings.Repeat("x", 256),
	}
	for _, id := range ids {
		c := newChallenge(id)
		c.Additional = map[string]string{id: id}
		e.create(t, c)
		i := e.reserveAdditional(t, c.Key, ctf.SourceID(id), c.Additional).Instance
		e.deploy(t, c.Key, i.Key.Identity)
		got, err := e.store.Instance(t.Context(), c.Key, ctf.SourceID(id))
		check(t, err)
		if got.Source != ctf.SourceID(id) || !cmp.Equal(got.Additional, c.Additional) {
			t.Fatalf("%q came back as %+v", id, got)
		}
		if mine := collect(t, e.store.BySource(t.Context(), tenant, ctf.SourceID(id))); len(mine) != 1 {
			t.Fatalf("%q holds %d", id, len(mine))
		}
		_, _, err = e.store.DeleteInstance(t.Context(), c.Key, ctf.SourceID(id))
		check(t, err)
	}
	if all := collect(t, e.store.Challenges(t.Context(), tenant)); len(all) != len(ids) {
		t.Fatalf("%d challenges, want %d", len(all), len(ids))
	}
	e.store.Shift(3 * time.Minute)
	if got := e.due(t); len(got) != len(ids) {
		t.Fatalf("%d due, want %d", len(got), len(ids))
	}
}

func (e env) reserveAdditional(t *testing.T, c ctf.ChallengeKey, source ctf.SourceID, additional map[string]string) ctf.Reservation {
	t.Helper()
	r, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: source, Additional: additional})
	check(t, err)
	return r
}

func testNothingIsLeft(t *testing.T, e env) {
	ctx := t.Context()
	c := newChallenge("c")
	c.Timeout, c.Pool.Min = new(time.Hour), 2
	e.create(t, c)
	e.deploy(t, c.Key, e.pooled(t, c.Key))
	e.pooled(t, c.Key)
	e.reserve(t, c.Key, alice)
	bob := e.started(t, c.Key, "bob").Key.Identity
	e.update(t, c.Key, newDigest(ctf.BlueGreen))
	l := e.lease(t, c.Key, bob)
	_, err := l.Replacement(ctx)
	check(t, err)
	check(t, l.Journal(ctf.Updating).Append(ctx, []byte("begin")))
	l.Release()
	d, ids, err := e.store.DeleteChallenge(ctx, c.Key)
	check(t, err)
	if len(ids) != 4 {
		t.Fatalf("%d instances, want 4: %v", len(ids), ids)
	}
	for _, id := range ids {
		e.destroy(t, c.Key, id)
	}
	removed, err := e.store.RemoveChallenge(ctx, c.Key, d.Incarnation)
	check(t, err)
	if !removed {
		t.Fatal("not removed")
	}
	e.store.Shift(3 * time.Minute)
	if due := e.due(t); len(due) != 0 {
		t.Fatalf("due: %v", due)
	}
	collect(t, e.store.Challenges(ctx, tenant))
	for _, source := range []ctf.SourceID{alice, "bob"} {
		collect(t, e.store.BySource(ctx, tenant, source))
	}
	kept := 0
	for _, k := range e.allKeys(t) {
		switch {
		case outlives(k) && e.raw.TTL(ctx, k).Val() > 0:
			kept++
		case k != "mayfly:tenants":
			t.Errorf("%s is left", k)
		}
	}
	if kept < 2 {
		t.Errorf("%d keys are kept, want events and what was deleted", kept)
	}
}

// outlives tells whether a key stays for a while when its challenge is gone: events,
// and what deletions were to delete.
func outlives(k string) bool { return strings.HasSuffix(k, "}:o") || strings.Contains(k, "}:t:") }

func testSecretsAreSealed(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	secret := "s3cr3t-that-nobody-must-see"
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	check(t, l.Journal(ctf.Pending).Append(ctx, []byte(secret)))
	w, err := l.Load(ctx)
	check(t, err)
	_, err = l.Deployed(ctx, w, ctf.Result{ConnectionInfo: secret, Flags: []string{secret}, Base: []byte(secret)})
	check(t, err)
	e.update(t, c, newDigest(ctf.InPlace))
	check(t, l.Journal(ctf.Updating).Append(ctx, []byte(secret)))
	_, err = l.Load(ctx)
	check(t, err)
	check(t, l.Abandon(ctx, ctf.Ready, secret))
	l.Release()
	dump := e.dump(t)
	if strings.Contains(dump, secret) || !strings.Contains(dump, string(id)) {
		t.Fatal("Redis holds the secret in clear")
	}
	i, err := e.store.Instance(ctx, c, alice)
	check(t, err)
	if i.ConnectionInfo != secret || i.Flags[0] != secret || i.Failure != secret {
		t.Fatalf("came back as %+v", i)
	}
}

func testKeyRotation(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	oldKey, newKey := redis.NewKey(), redis.NewKey()
	with := func(text string) *redis.Store {
		keys, err := redis.ParseKeys(text)
		check(t, err)
		return open(t, e.url, keys, 0)
	}
	e.store = with(oldKey)
	e.started(t, c, alice)
	e.store = with(newKey + "," + oldKey)
	e.started(t, c, "bob")
	for _, source := range []ctf.SourceID{alice, "bob"} {
		_, err := e.store.Instance(t.Context(), c, source)
		check(t, err)
	}
	e.store = with(newKey)
	_, err := e.store.Instance(t.Context(), c, "bob")
	check(t, err)
	if _, err = e.store.Instance(t.Context(), c, alice); err == nil || !strings.Contains(err.Error(), "not among those given") {
		t.Fatalf("without the old key: %v", err)
	}
}

func testNewerSchemaIsRefused(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	e.started(t, c, alice)
	for _, k := range e.allKeys(t) {
		if strings.HasSuffix(k, "}:c") {
			check(t, e.raw.HSet(ctx, k, "schema", "2").Err())
		}
	}
	_, err := e.store.Challenge(ctx, c)
	wantReason(t, err, ctf.ReasonUnavailable)
	_, err = e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: "bob"})
	wantReason(t, err, ctf.ReasonUnavailable)
	if !strings.Contains(err.Error(), "newer version") {
		t.Fatal(err)
	}
}

// testUnknownFieldsSurvive: an older function leaves a newer one's fields be.
func testUnknownFieldsSurvive(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	e.started(t, c, alice)
	for _, k := range e.allKeys(t) {
		if strings.Contains(k, "}:i:") || strings.HasSuffix(k, "}:c") {
			check(t, e.raw.HSet(ctx, k, "from_the_future", "kept").Err())
		}
	}
	u := e.update(t, c, newDigest(ctf.InPlace))
	e.deploy(t, c, u.Updating[0])
	if n := strings.Count(e.dump(t), "from_the_future:kept"); n != 2 {
		t.Fatalf("%d of 2 records kept it", n)
	}
}

func testDatesComeBackToTheDigit(t *testing.T, e env) {
	for n, date := range []time.Time{
		time.Date(2222, 12, 22, 22, 22, 22, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 500, time.UTC),
	} {
		c := newChallenge(fmt.Sprint(n))
		c.Until, c.Timeout = &date, new(-1500*time.Millisecond)
		e.create(t, c)
		got, err := e.store.Challenge(t.Context(), c.Key)
		check(t, err)
		if !got.Until.Equal(date) || *got.Timeout != *c.Timeout {
			t.Errorf("%v, %v came back as %v, %v", date, *c.Timeout, got.Until, *got.Timeout)
		}
	}
	// An instance that ends with its challenge says the same date.
	c := newChallenge("capped")
	date := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	c.Until, c.Timeout = &date, new(2*time.Hour)
	e.create(t, c)
	if i := e.started(t, c.Key, alice); !i.Until.Equal(date) {
		t.Errorf("ends %v, want %v", i.Until, date)
	}
	if i, err := e.store.Renew(t.Context(), c.Key, alice); err != nil || !i.Until.Equal(date) {
		t.Errorf("renewed until %v, want %v: %v", i.Until, date, err)
	}
}
