package redis

import (
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// These tests stand inside the package to stop between a hint and its script.

func newStore(t *testing.T) *Store {
	t.Helper()
	keys, err := ParseKeys(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{URL: redistest.Start(t), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func due(t *testing.T, s *Store) (ids []ctf.Identity) {
	t.Helper()
	for k, err := range s.Due(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.Identity)
	}
	return ids
}

func reserveStep(key ctf.ChallengeKey, source string) func(hinted) call {
	return func(h hinted) call {
		return call{"reserve", challengePrefix(key), []any{"hint", h.at, "source", source, "identity", "0123456789abcdef",
			"request", "r", "additional", "", "idempotency", ""}}
	}
}

func TestHintAndCleanupAndStep(t *testing.T) {
	t.Parallel()
	key := ctf.ChallengeKey{Tenant: "t", ID: "c"}
	hints := []call{
		hintCall(sourceKey("t", "alice"), "c"), hintCall(challengesKey("t"), "c"), lookCall(dueEntry{dueSource, key, "alice"}),
	}
	clean := func(t *testing.T, s *Store) {
		t.Helper()
		for _, err := range s.Challenges(t.Context(), "t") {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range s.BySource(t.Context(), "t", "alice") {
			if err != nil {
				t.Fatal(err)
			}
		}
		due(t, s)
	}
	for _, test := range []struct {
		name        string
		wait        time.Duration
		want        string
		hints, look int64 // that survive the cleanup
	}{
		{"the step follows at once", 0, "reserved", 1, 1},
		{"the step follows late", 22 * time.Second, "reserved", 1, 1},
		{"the step follows too late", 30 * time.Second, "stale", 1, 1},
		{"the step follows after a cleanup", 121 * time.Second, "stale", 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			if err := s.CreateChallenge(t.Context(), ctf.Challenge{Key: key}); err != nil {
				t.Fatal(err)
			}
			h, err := s.announce(t.Context(), hints)
			if err != nil {
				t.Fatal(err)
			}
			s.Shift(test.wait)
			clean(t, s)
			if n := s.client.HLen(t.Context(), sourceKey("t", "alice")).Val(); n != test.hints {
				t.Errorf("%d hints are left, want %d", n, test.hints)
			}
			if n := s.client.ZCard(t.Context(), dueKey).Val(); n != test.look {
				t.Errorf("%d due entries are left, want %d", n, test.look)
			}
			r, err := s.run(t.Context(), reserveStep(key, "alice")(h))
			if err != nil || r.status() != test.want {
				t.Fatalf("the step answers %q, %v", r.status(), err)
			}
		})
	}
}

// TestStepIsRepeatedOnce: a verb that was held up once succeeds, one that is
// held up each time says so.
func TestStepIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	key := ctf.ChallengeKey{Tenant: "t", ID: "c"}
	for _, test := range []struct {
		name   string
		pauses int
		want   ctf.Reason
	}{
		{"held up once", 1, ""},
		{"held up twice", 2, ctf.ReasonUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			if err := s.CreateChallenge(t.Context(), ctf.Challenge{Key: key}); err != nil {
				t.Fatal(err)
			}
			paused := 0
			_, _, err := s.announced(t.Context(), []call{lookCall(dueEntry{dueSource, key, "alice"})}, func(h hinted) call {
				if paused < test.pauses {
					paused++
					s.Shift(time.Minute)
				}
				return reserveStep(key, "alice")(h)
			})
			if got := ctf.ReasonOf(err); got != test.want {
				t.Fatal(err)
			}
		})
	}
}

// TestLookFiresAfterItsStep: a step as late as it may be is seen by the look
// that announced it.
func TestLookFiresAfterItsStep(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := ctf.ChallengeKey{Tenant: "t", ID: "c"}
	if err := s.CreateChallenge(t.Context(), ctf.Challenge{Key: key}); err != nil {
		t.Fatal(err)
	}
	h, err := s.announce(t.Context(), []call{lookCall(dueEntry{dueSource, key, "alice"})})
	if err != nil {
		t.Fatal(err)
	}
	s.Shift(22 * time.Second)
	if r, err := s.run(t.Context(), reserveStep(key, "alice")(h)); err != nil || r.status() != "reserved" {
		t.Fatal(r, err)
	}
	if _, err := s.run(t.Context(), call{"delete_instance", challengePrefix(key), []any{"hint", h.at, "source", "alice", "request", "d"}}); err != nil {
		t.Fatal(err)
	}
	fires, err := parseInstant(h.fires)
	if err != nil {
		t.Fatal(err)
	}
	announced, err := parseInstant(h.at)
	if err != nil {
		t.Fatal(err)
	}
	s.Shift(fires.Sub(announced) - 22*time.Second)
	if ids := due(t, s); len(ids) != 1 {
		t.Fatalf("due: %v", ids)
	}
}

// TestRepeatedCommandIsDoneOnce: the client sends a script again when the
// connection broke before the answer came.
func TestRepeatedCommandIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	key := ctf.ChallengeKey{Tenant: "t", ID: "c"}
	prefix := challengePrefix(key)
	twice := func(c call) reply {
		t.Helper()
		first, err := s.run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		second, err := s.run(t.Context(), c)
		if err != nil || first.status() != second.status() || first.text(1) != second.text(1) {
			t.Fatalf("%s: first %q %q, then %q %q, %v", c.script, first.status(), first.text(1), second.status(), second.text(1), err)
		}
		return first
	}
	h, err := s.announce(t.Context(), []call{lookCall(dueEntry{dueSource, key, "alice"})})
	if err != nil {
		t.Fatal(err)
	}
	twice(call{"create_challenge", prefix, []any{"hint", h.at, "tenant", "t", "id", "c", "incarnation", "n", "reference", "", "digest", "",
		"timeout", "", "ends_at", "", "additional", "", "min", 1, "max", 0}})
	twice(call{"reserve_pooled", prefix, []any{"hint", h.at, "identity", "fedcba9876543210"}})
	twice(reserveStep(key, "alice")(h))
	l, err := s.Lease(t.Context(), ctf.InstanceKey{Challenge: key, Identity: "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	held := []any{"identity", "0123456789abcdef", "fence", "1", "token", l.(*lease).lock.Token(), "ttl", 20000, "hint", h.at, "request", "q"}
	twice(call{"append", prefix, append(held, "state", "pending", "number", "1:1", "entry", "e")})
	if n := s.client.LLen(t.Context(), prefix+"j:0123456789abcdef").Val(); n != 1 {
		t.Errorf("%d journal entries", n)
	}
	twice(call{"deployed", prefix, append(held, "state", "pending", "info", "", "base", "", "generation", 1, "reference", "", "digest", "")})
	twice(call{"delete_instance", prefix, []any{"hint", h.at, "source", "alice", "request", "d"}})
	twice(call{"delete_challenge", prefix, []any{"hint", h.at, "request", "d"}})
}

// TestRepeatedDeletion: it is sent again when others have brought it to its end,
// and maybe begun anew.
func TestRepeatedDeletion(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx, key := t.Context(), ctf.ChallengeKey{Tenant: "t", ID: "c"}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func() ctf.InstanceKey {
		check(s.CreateChallenge(ctx, ctf.Challenge{Key: key}))
		r, err := s.Reserve(ctx, ctf.ReserveRequest{Challenge: key, Source: "alice"})
		check(err)
		return r.Instance.Key
	}
	forget := func(i ctf.InstanceKey) {
		l, err := s.Lease(ctx, i)
		check(err)
		defer l.Release()
		check(l.Forget(ctx))
	}
	h, err := s.announce(ctx, []call{lookCall(dueEntry{dueSource, key, "alice"})})
	check(err)
	wantFirst := func(c call) {
		t.Helper()
		r, err := s.run(ctx, c)
		check(err)
		if r.status() != "first" {
			t.Fatalf("%s: %s", c.script, r.status())
		}
	}
	ofInstance := call{"delete_instance", challengePrefix(key), []any{"hint", h.at, "source", "alice", "request", "d"}}
	ofChallenge := call{"delete_challenge", challengePrefix(key), []any{"hint", h.at, "request", "e"}}
	first := begin()
	wantFirst(ofInstance)
	forget(first)
	wantFirst(ofInstance)
	r, err := s.Reserve(ctx, ctf.ReserveRequest{Challenge: key, Source: "alice"})
	check(err)
	wantFirst(ofInstance)
	if i, err := s.Recorded(ctx, []ctf.InstanceKey{r.Instance.Key}); err != nil || !i[0] {
		t.Errorf("on record %v, %v", i, err)
	}
	if due := s.client.ZCard(ctx, challengePrefix(key)+"d").Val(); due != 0 {
		t.Error("what was created since is deleted")
	}

	bob, err := s.Reserve(ctx, ctf.ReserveRequest{Challenge: key, Source: "bob"})
	check(err)
	wantFirst(ofChallenge)
	forget(bob.Instance.Key)
	if again, err := s.run(ctx, ofChallenge); err != nil || again.status() != "first" || len(again.strings(1)) != 1 {
		t.Errorf("while one instance is left: %v %v", again, err)
	}
	forget(r.Instance.Key)
	c, err := s.Challenge(ctx, key)
	check(err)
	removed, err := s.RemoveChallenge(ctx, key, c.Incarnation)
	check(err)
	if !removed {
		t.Fatal("the challenge is there")
	}
	wantFirst(ofChallenge)
	begin()
	wantFirst(ofChallenge)
	if c, err := s.Challenge(ctx, key); err != nil || c.Deleting {
		t.Errorf("what was created since is deleted: %v %v", c, err)
	}
}
