package redis_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func tryHalf(t *testing.T, c *cell) {
	ctx := t.Context()
	challenge := newChallenge(string(c.key.ID))
	challenge.Timeout = new(10 * time.Minute)
	c.create(t, challenge)
	c.hold(t, "updating")
	old := c.lease(t, c.key, c.id)
	half, err := old.Replacement(ctx)
	check(t, err)
	switch c.state {
	case "ready", "failed":
		check(t, old.Abandon(ctx, ctf.State(c.state), ""))
	case "ended":
		c.end(t)
	case "deleting":
		_, _, err := c.store.DeleteInstance(ctx, c.key, alice)
		check(t, err)
	}
	l := c.lease(t, c.key, half)
	w, err := l.Load(ctx)
	check(t, err)
	i, err := l.Deployed(ctx, w, result(half))
	c.answer = word(t, err, "switched")
	if i.State == ctf.Deleting {
		c.answer = "discarded"
	}
	if now := c.stateOf(t, c.id); c.answer == "switched" && now != "deleting" {
		t.Errorf("after the switch the old one is %s", now)
	}
	c.next = c.stateOf(t, half)
}

func tryPooled(t *testing.T, c *cell) {
	challenge := newChallenge(string(c.key.ID))
	challenge.Pool.Min = 1
	// Far enough to set the state up, and past at once by this cell's clock.
	challenge.Until = new(time.Now().Add(time.Hour))
	c.create(t, challenge)
	c.id = c.pooled(t, c.key)
	switch c.state {
	case "ready":
		c.deploy(t, c.key, c.id)
	case "ended":
		c.deploy(t, c.key, c.id)
		c.store.Shift(2 * time.Hour)
	case "deleting":
		c.update(t, c.key, ctf.ChallengeChange{SetMin: true})
		c.update(t, c.key, ctf.ChallengeChange{SetMin: true, Pool: challenge.Pool})
	}
	switch c.verb {
	case "create":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{})
	case "create, ready only":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{ReadyOnly: true})
	case "create, ready only, with additional":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{ReadyOnly: true, Additional: map[string]string{"a": "b"}})
	case "create with additional":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{Additional: map[string]string{"a": "b"}})
	case "query":
		c.answer = listed(len(collect(t, c.store.Claimed(t.Context(), c.key))) > 0)
	case "fill pool of 1":
		c.answer = c.fillAnswer(t)
	case "restore":
		c.answer = c.restoreAnswer(t)
	default:
		c.tryShared(t)
	}
	if c.next = c.stateOf(t, c.id); c.next == "ready" && c.state == "ended" {
		c.next = "ended" // by this cell's clock
	}
}

func (c *cell) fillAnswer(t *testing.T) string {
	t.Helper()
	_, ok, err := c.store.ReservePooled(t.Context(), c.key)
	check(t, err)
	if ok {
		return "made"
	}
	return "full"
}

// restoreAnswer takes a backup of the challenge, removes it and restores it.
func (c *cell) restoreAnswer(t *testing.T) string {
	t.Helper()
	before := c.stateOf(t, c.id)
	for _, s := range collect(t, c.store.Snapshots(t.Context())) {
		if s.Challenge["id"] != string(c.key.ID) {
			continue
		}
		keys := c.allKeys(t)
		at := slices.IndexFunc(keys, func(k string) bool { return strings.HasSuffix(k, "}:i:"+string(c.id)) })
		prefix, _, _ := strings.Cut(keys[at], "}:")
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				check(t, c.raw.Del(t.Context(), k).Err())
			}
		}
		c.restoreOne(t, s)
	}
	if c.stateOf(t, c.id) == before {
		return "nothing"
	}
	return "dropped"
}

func tryChallenge(t *testing.T, c *cell) {
	ctx := t.Context()
	challenge := newChallenge(string(c.key.ID))
	challenge.Timeout, challenge.Pool.Min = new(time.Minute), 1
	if c.state == "expired" {
		challenge.Until = new(time.Now().Add(-time.Hour))
	}
	if c.state != "none" {
		c.create(t, challenge)
	}
	if c.state == "deleting" {
		_, _, err := c.store.DeleteChallenge(ctx, c.key)
		check(t, err)
	}
	switch c.verb {
	case "create challenge":
		c.answer = word(t, c.store.CreateChallenge(ctx, challenge), "done")
	case "retrieve challenge":
		_, err := c.store.Challenge(ctx, c.key)
		c.answer = word(t, err, "found")
	case "query challenge":
		c.answer = listed(slices.ContainsFunc(collect(t, c.store.Challenges(ctx, tenant)), func(o ctf.Challenge) bool { return o.Key == c.key }))
	case "update challenge":
		_, err := c.store.UpdateChallenge(ctx, c.key, newDigest(ctf.InPlace))
		c.answer = word(t, err, "done")
	case "delete challenge":
		d, _, err := c.store.DeleteChallenge(ctx, c.key)
		c.answer = word(t, err, firstOrAgain(d))
	case "remove challenge":
		c.answer = c.removeAnswer(t)
	case "create instance":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{})
	case "retrieve instance":
		_, err := c.store.Instance(ctx, c.key, alice)
		c.answer = word(t, err, "found")
	case "renew instance":
		_, err := c.store.Renew(ctx, c.key, alice)
		c.answer = word(t, err, "renewed")
	case "delete instance":
		_, d, err := c.store.DeleteInstance(ctx, c.key, alice)
		c.answer = word(t, err, firstOrAgain(d))
	case "fill pool":
		c.answer = c.fillAnswer(t)
	default:
		t.Fatalf("the test does not know the verb %q", c.verb)
	}
	c.next = c.challengeState(t)
}

func (c *cell) removeAnswer(t *testing.T) string {
	t.Helper()
	challenge, err := c.store.Challenge(t.Context(), c.key)
	if ctf.ReasonOf(err) != ctf.ReasonChallengeNotFound {
		check(t, err)
	}
	removed, err := c.store.RemoveChallenge(t.Context(), c.key, challenge.Incarnation)
	if e, ok := errors.AsType[*ctf.Error](err); ok && e.Kind == ctf.Conflict {
		return "refused"
	}
	check(t, err)
	if removed {
		return "removed"
	}
	return "nothing"
}

func (c *cell) challengeState(t *testing.T) string {
	t.Helper()
	challenge, err := c.store.Challenge(t.Context(), c.key)
	switch {
	case ctf.ReasonOf(err) == ctf.ReasonChallengeNotFound:
		return "none"
	case err != nil:
		t.Fatal(err)
	case challenge.Deleting:
		return "deleting"
	case challenge.Until != nil && challenge.Until.Before(time.Now()):
		return "expired"
	}
	return "open"
}
