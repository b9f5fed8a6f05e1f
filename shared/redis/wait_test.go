package redis_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// newReplicated is a store that waits for a replica.
func newReplicated(t testing.TB) (e env, replica *redistest.Server) {
	t.Helper()
	primary := redistest.New(t)
	replica = primary.Replica()
	e = newEnv(t, primary.URL())
	e.store = openWaiting(t, e, 1)
	return e, replica
}

func openWaiting(t testing.TB, e env, replicas uint8) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Options{URL: e.url, Keys: e.keys, Wait: replicas})
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestWait: with a replica at hand all is as without.
func TestWait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, env){
		"story": testStory, "script flush": testScriptFlush, "one of many": testOneOfManyReserves, "claims": testClaimsNeverShare,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := newReplicated(t)
			test(t, e)
		})
	}
}

// TestWaitForAReplicaThatHangs: a change is not confirmed, though it may have
// happened, and neither is what rests on one. What is only read is answered.
func TestWaitForAReplicaThatHangs(t *testing.T) {
	t.Parallel()
	e, replica := newReplicated(t)
	ctx := t.Context()
	challenge := newChallenge("c")
	challenge.Timeout = new(time.Hour)
	c := e.create(t, challenge)
	id := e.reserve(t, c, "bob").Instance.Key.Identity
	l := e.lease(t, c, id)
	w, err := l.Load(ctx)
	check(t, err)
	pending := e.reserve(t, c, "carol").Instance.Key
	request := ctf.ReserveRequest{Challenge: c, Source: alice, IdempotencyKey: "k"}

	replica.Pause()
	for range 2 { // the second one finds the first one's instance
		began := time.Now()
		_, err = e.store.Reserve(ctx, request)
		wantReason(t, err, ctf.ReasonUnavailable)
		if took := time.Since(began); took > patient/2 {
			t.Errorf("it took %v", took)
		}
	}
	_, err = l.Deployed(ctx, w, result(id))
	wantReason(t, err, ctf.ReasonUnavailable)
	_, err = l.Load(ctx) // by which others tell their callers that it is deployed
	wantReason(t, err, ctf.ReasonUnavailable)
	_, err = e.store.Renew(ctx, c, "bob")
	wantReason(t, err, ctf.ReasonUnavailable)
	if i, err := e.store.Instance(ctx, c, "bob"); err != nil || i.Key.Identity != id {
		t.Errorf("%+v, %v", i, err)
	}

	_, err = e.store.Follow(ctx, ctf.Reservation{Instance: ctf.Instance{Key: ctf.InstanceKey{Challenge: c}, Source: "nobody"}})
	wantReason(t, err, ctf.ReasonUnavailable) // that nothing is there, by which a creator is told that it was deleted

	_, err = e.store.Lease(ctx, pending)
	wantReason(t, err, ctf.ReasonUnavailable)

	replica.Resume()
	r, err := e.store.Reserve(ctx, request)
	if err != nil || !r.Attached {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = e.store.Renew(ctx, c, "bob")
	check(t, err)
	l = e.lease(t, c, pending.Identity)
	if w, err = l.Load(ctx); err != nil || w.Attempt != 1 {
		t.Errorf("attempt %d, %v; want the first", w.Attempt, err)
	}
}

// TestPromisesWait takes each step while the replica hangs. Those whose answers are
// promises, or are what one rests on, wait in vain, and no others wait.
func TestPromisesWait(t *testing.T) {
	t.Parallel()
	e, replica := newReplicated(t)
	e.url += "?pool_size=200" // so that no step waits for another
	e.store = openWaiting(t, e, 1)
	c := newCrowd(t, e)
	steps := c.steps()
	steps["create challenge"] = func(ctx context.Context) error { return c.store.CreateChallenge(ctx, newChallenge("other")) }
	steps["lease"] = func(ctx context.Context) error {
		_, err := c.store.Lease(ctx, ctf.InstanceKey{Challenge: c.key, Identity: c.names["pooled"]})
		return err
	}
	for name, lease := range c.leases {
		steps["load "+name] = func(ctx context.Context) error { _, err := lease.Load(ctx); return err }
	}
	idle := regexp.MustCompile(`^(hand on|fill pool|expire)$|^(append|rebase|strip|excuse|disown) `)

	replica.Pause()
	defer replica.Resume()
	var group sync.WaitGroup
	for step, take := range steps {
		group.Go(func() {
			err := take(t.Context())
			waited := ctf.ReasonOf(err) == ctf.ReasonUnavailable && strings.Contains(err.Error(), "replicas have it")
			if promise := !idle.MatchString(step); waited != promise {
				t.Errorf("%s: %v; it is a promise: %t", step, err, promise)
			}
		})
	}
	group.Wait()
}

// A forgetful Redis has lost all once a script was answered, as one has that is put in
// charge before it knew. A pipeline goes over one connection, and so to one Redis.
type forgetful struct {
	goredis.Hook
	raw goredis.UniversalClient
}

func (forgetful) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (f forgetful) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error {
		if err := next(ctx, command); err != nil || !strings.HasPrefix(command.Name(), "eval") {
			return err
		}
		return f.raw.FlushAll(ctx).Err()
	}
}

func (forgetful) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// TestFollowWaitsForWhatItRead: what is answered is on the Redis that was waited for.
func TestFollowWaitsForWhatItRead(t *testing.T) {
	t.Parallel()
	e, _ := newReplicated(t)
	c := e.create(t, newChallenge("c"))
	r := e.reserve(t, c, alice)
	e.deploy(t, c, r.Instance.Key.Identity)
	s, err := redis.Open(t.Context(), redis.Options{URL: e.url, Keys: e.keys, Wait: 1, Hook: forgetful{raw: e.raw}})
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	i, err := s.Follow(t.Context(), r)
	check(t, err)
	if _, there := e.find(t, c, i.Key.Identity); !there {
		t.Error("it is told of an instance that is lost")
	}
}

// TestWaitForTooMany: there are fewer replicas than are waited for.
func TestWaitForTooMany(t *testing.T) {
	t.Parallel()
	e, _ := newReplicated(t)
	wantReason(t, openWaiting(t, e, 2).CreateChallenge(t.Context(), newChallenge("c")), ctf.ReasonUnavailable)
	check(t, openWaiting(t, e, 1).CreateChallenge(t.Context(), newChallenge("d")))
}

func TestNobodyWaitsInACluster(t *testing.T) {
	t.Parallel()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	for _, address := range []string{"redis+cluster://127.0.0.1:1", "rediss+cluster://127.0.0.1:1", "redis://127.0.0.1:1,127.0.0.1:2", "redis://127.0.0.1:1?addr=127.0.0.1:2"} {
		if _, err := redis.Open(t.Context(), redis.Options{URL: address, Keys: keys, Wait: 1, Lazy: true}); err == nil {
			t.Errorf("%s is opened", address)
		}
	}
}

func BenchmarkWait(b *testing.B) {
	for replicas := range uint8(2) {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			e, _ := newReplicated(b)
			e.store = openWaiting(b, e, replicas)
			challenge := newChallenge("c")
			challenge.Timeout = new(time.Hour)
			c := e.create(b, challenge)
			e.started(b, c, alice)
			for b.Loop() {
				_, err := e.store.Renew(b.Context(), c, alice)
				check(b, err)
			}
		})
	}
}
