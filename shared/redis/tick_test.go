package redis_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A clock is a fast tick that only says whether it is on.
type clock struct{ on atomic.Bool }

func (c *clock) On(context.Context) error  { c.on.Store(true); return nil }
func (c *clock) Off(context.Context) error { c.on.Store(false); return nil }

// newQuiet is a store whose tick is off until it is needed.
func newQuiet(t *testing.T) (env, *clock) {
	t.Helper()
	e, c := newEnv(t, redistest.Start(t)), &clock{}
	var err error
	e.store, err = redis.Open(t.Context(), redis.Options{URL: e.url, Keys: e.keys, Tick: c})
	check(t, err)
	t.Cleanup(func() { _ = e.store.Close() })
	return e, c
}

func (e env) wantTick(t *testing.T, c *clock, want bool) {
	t.Helper()
	until(t, "the tick is as it should be", func() bool {
		recorded := e.raw.HGet(t.Context(), "{mayfly:due}:tick", "state").Val() == "on"
		return c.on.Load() == want && recorded == want
	})
	check(t, e.store.RestTick(t.Context()))
	if c.on.Load() != want {
		t.Fatalf("the tick is on: %v, want %v", !want, want)
	}
}

// reconcile does what the function does with a system at rest.
func (e env) reconcile(t *testing.T) {
	t.Helper()
	for _, c := range collect(t, e.store.Challenges(t.Context(), tenant)) {
		check(t, e.store.RepairIndexes(t.Context(), c.Key))
		if _, short, err := e.store.ReservePooled(t.Context(), c.Key); short || err != nil {
			t.Fatal(short, err)
		}
	}
	check(t, e.store.RepairTick(t.Context()))
}

// TestTickThroughADay plays a day in which three instances end, with ticks only
// when the clock is on: each is due within ten seconds of its end, and between
// them it is quiet.
func TestTickThroughADay(t *testing.T) {
	t.Parallel()
	e, tick := newQuiet(t)
	const step = 10 * time.Second
	ends, due := map[ctf.Identity]time.Duration{}, map[ctf.Identity]time.Duration{}
	for source, lives := range map[ctf.SourceID]time.Duration{"a": 2 * time.Hour, "b": 7 * time.Hour, "c": 20 * time.Hour} {
		c := newChallenge(string(source))
		c.Timeout = &lives
		ends[e.started(t, e.create(t, c), source).Key.Identity] = *c.Timeout
	}
	e.wantTick(t, tick, true)
	ticks, began := 0, time.Now()
	for now := step; now < 24*time.Hour; now += step {
		e.store.Shift(step)
		if tick.on.Load() {
			ticks++
			for key, err := range e.store.Due(t.Context()) {
				check(t, err)
				due[key.Identity] = now + time.Since(began) // the clock of Redis goes on, too
				e.destroy(t, key.Challenge, key.Identity)
			}
			check(t, e.store.RestTick(t.Context()))
		}
		if now%(15*time.Minute) == 0 {
			e.reconcile(t)
		}
	}
	for id, end := range ends {
		if late := due[id] - end; late < 0 || late > 2*step {
			t.Errorf("the instance that ends after %v was due after %v", end, due[id])
		}
	}
	e.wantTick(t, tick, false)
	// Three minutes at the start; before each end 17 minutes and 15 at most.
	if most := 3 * int(36*time.Minute/step); ticks == 0 || ticks > most {
		t.Errorf("%d ticks, want no more than %d", ticks, most)
	}
	t.Logf("%d ticks in a day", ticks)
}

// TestReadersAndRenewalsAreQuiet: the light verbs have no right to turn the
// tick on, and so they must not need it.
func TestReadersAndRenewalsAreQuiet(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	random := rand.New(rand.NewPCG(1, 2))
	span := func() *time.Duration { return new(time.Duration(1+random.IntN(100)) * time.Minute) }
	c := newChallenge("c")
	c.Timeout = span()
	e.create(t, c)
	renewed := 0
	for range 400 {
		switch random.IntN(4) {
		case 0:
			if _, err := e.store.Instance(t.Context(), c.Key, alice); err != nil {
				e.due(t)
				r, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c.Key, Source: alice})
				check(t, err)
				e.deploy(t, c.Key, r.Instance.Key.Identity)
			}
		case 1:
			change := ctf.ChallengeChange{SetTimeout: true, Timeout: span()}
			if random.IntN(2) == 0 {
				change.SetUntil = true
				change.Until = new(time.Now().Add(1000 * time.Hour))
			}
			e.update(t, c.Key, change)
		default:
			e.store.Shift(*span() / 4)
		}
		before, err := e.store.Instance(t.Context(), c.Key, alice)
		if err != nil {
			continue
		}
		entries := e.raw.ZRangeWithScores(t.Context(), "mayfly:due", 0, -1).Val()
		after, err := e.store.Renew(t.Context(), c.Key, alice)
		check(t, err)
		if after.Until.Before(*before.Until) {
			t.Fatalf("renewing moved the end from %v to %v", before.Until, after.Until)
		}
		collect(t, e.store.Claimed(t.Context(), c.Key))
		collect(t, e.store.BySource(t.Context(), tenant, alice))
		if d := cmp.Diff(entries, e.raw.ZRangeWithScores(t.Context(), "mayfly:due", 0, -1).Val()); d != "" {
			t.Fatal(d)
		}
		renewed++
	}
	if renewed < 50 {
		t.Fatalf("only %d renewals", renewed)
	}
}

// TestStepsWakeTheTick: whatever may become due turns the tick on.
func TestStepsWakeTheTick(t *testing.T) {
	t.Parallel()
	e, tick := newQuiet(t)
	c := newChallenge("c")
	c.Pool.Min, c.Timeout = 1, new(10*time.Hour)
	e.create(t, c)
	e.wantTick(t, tick, false) // an empty challenge is nothing to look at
	var id ctf.Identity
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"fill the pool", func() { id = e.pooled(t, c.Key) }},
		{"deploy", func() { e.deploy(t, c.Key, id) }},
		{"claim", func() { e.reserve(t, c.Key, alice) }},
		{"update", func() { e.update(t, c.Key, ctf.ChallengeChange{SetMin: true}) }},
		{"delete an instance", func() { _, _, err := e.store.DeleteInstance(t.Context(), c.Key, alice); check(t, err) }},
		{"fail to destroy it", func() {
			l := e.lease(t, c.Key, id)
			defer l.Release()
			check(t, l.Abandon(t.Context(), ctf.Deleting, "no"))
		}},
		{"delete the challenge", func() { _, _, err := e.store.DeleteChallenge(t.Context(), c.Key); check(t, err) }},
	} {
		t.Log(step.name)
		step.do()
		e.wantTick(t, tick, true)
		check(t, e.raw.Del(t.Context(), "mayfly:due").Err()) // as if all of it had been looked at
		check(t, e.store.RestTick(t.Context()))
		e.wantTick(t, tick, false)
	}
}

// TestTickComesBack: a Redis that was emptied, or lost its last moments, and a
// clock that somebody else changed are put right by reconcile.
func TestTickComesBack(t *testing.T) {
	t.Parallel()
	e, tick := newQuiet(t)
	c := e.timed(t, 10*time.Minute)
	e.started(t, c, alice)
	e.wantTick(t, tick, true)
	tick.on.Store(false)
	check(t, e.store.RepairTick(t.Context()))
	e.wantTick(t, tick, true)
	for _, k := range e.allKeys(t) {
		if k == "mayfly:due" || k == "{mayfly:due}:tick" {
			check(t, e.raw.Del(t.Context(), k).Err())
		}
	}
	tick.on.Store(false)
	e.reconcile(t)
	e.wantTick(t, tick, true)
}
