package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// leaseKey finds the only lease in Redis.
func (e env) leaseKey(t *testing.T) string {
	t.Helper()
	for _, k := range e.allKeys(t) {
		if len(k) > 18 && k[len(k)-18:len(k)-16] == "l:" {
			return k
		}
	}
	t.Fatal("there is no lease")
	return ""
}

func waitCause(ctx context.Context, t *testing.T, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
		wantError(t, context.Cause(ctx), want)
	case <-time.After(patient):
		t.Fatal("the work was not told to end")
	}
}

func testOldHolderIsRefused(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	old := e.lease(t, c, id)
	w, err := old.Load(ctx)
	check(t, err)
	check(t, old.Journal(ctf.Pending).Append(ctx, []byte("begin")))
	held, cancel := old.Hold(ctx, ctf.Pending)
	defer cancel()
	check(t, e.raw.Del(ctx, e.leaseKey(t)).Err()) // as if it ran out
	next := e.lease(t, c, id)
	wantError(t, old.Journal(ctf.Pending).Append(ctx, []byte("late")), ctf.ErrLeaseLost)
	wantError(t, old.Journal(ctf.Pending).Rebase(ctx, []byte("late")), ctf.ErrLeaseLost)
	wantError(t, old.Abandon(ctx, ctf.Deleting, "late"), ctf.ErrLeaseLost)
	_, err = old.Deployed(ctx, w, result(id))
	wantError(t, err, ctf.ErrLeaseLost)
	_, err = old.Replacement(ctx)
	wantError(t, err, ctf.ErrLeaseLost)
	_, _, err = e.store.DeleteInstance(ctx, c, alice)
	check(t, err)
	wantError(t, old.Forget(ctx), ctf.ErrLeaseLost)
	waitCause(held, t, ctf.ErrLeaseLost)
	old.Release() // and it must not take the new holder's lease along
	w, err = next.Load(ctx)
	check(t, err)
	if d := cmp.Diff([][]byte{[]byte("begin")}, w.Checkpoint.Journal); d != "" {
		t.Fatal(d)
	}
	check(t, next.Forget(ctx))
	_, err = next.Load(ctx)
	wantReason(t, err, ctf.ReasonInstanceNotFound)
}

func testLeaseIsTakenAgainWhenNobodyElseDid(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	k := e.leaseKey(t)
	check(t, e.raw.Del(ctx, k).Err())
	check(t, l.Journal(ctf.Pending).Append(ctx, []byte("begin")))
	if n := e.raw.Exists(ctx, k).Val(); n != 1 {
		t.Fatal("the lease was not taken again")
	}
	l.Release()
	l.Release()
	if n := e.raw.Exists(ctx, k).Val(); n != 0 {
		t.Fatal("a released lease is still there")
	}
}

func testLeaseWaitsForTheHolder(t *testing.T, e env) {
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	first := e.lease(t, c, id)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := e.store.Lease(short, ctf.InstanceKey{Challenge: c, Identity: id})
	wantError(t, err, context.DeadlineExceeded)
	go first.Release()
	e.lease(t, c, id)
}

func testLeaseOfNothing(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	_, err := e.store.Lease(ctx, ctf.InstanceKey{Challenge: c, Identity: "0123456789abcdef"})
	wantReason(t, err, ctf.ReasonInstanceNotFound)

	// While one waits, the holder forgets the instance and keeps the lease.
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	waiting := make(chan error, 1)
	go func() {
		_, err := e.store.Lease(ctx, ctf.InstanceKey{Challenge: c, Identity: id})
		waiting <- err
	}()
	check(t, l.Abandon(ctx, ctf.Deleting, "it went wrong"))
	check(t, l.Forget(ctx))
	wantReason(t, <-waiting, ctf.ReasonInstanceNotFound)
}

func testDeleteEndsTheHoldersWork(t *testing.T, e env) {
	ctx := t.Context()
	e.store = open(t, e.url, e.keys, 5*time.Second) // beats four times as often
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	held, cancel := l.Hold(ctx, ctf.Pending)
	defer cancel()
	_, _, err := e.store.DeleteInstance(ctx, c, alice)
	check(t, err)
	waitCause(held, t, ctf.ErrSuperseded)
	wantError(t, l.Journal(ctf.Pending).Append(ctx, []byte("begin")), ctf.ErrSuperseded)
	late, cancel := l.Hold(ctx, ctf.Pending)
	defer cancel()
	waitCause(late, t, ctf.ErrSuperseded)
	if next, cancel := l.Hold(ctx, ctf.Deleting); next.Err() != nil {
		t.Fatal(context.Cause(next))
	} else {
		cancel()
	}
}

func TestPausedRedisEndsTheHoldersWork(t *testing.T) {
	t.Parallel()
	server := redistest.New(t)
	e := newEnv(t, server.URL())
	e.store = open(t, server.URL(), e.keys, time.Second)
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	held, cancel := l.Hold(t.Context(), ctf.Pending)
	defer cancel()
	server.Pause()
	waitCause(held, t, ctf.ErrLeaseLost)
	if left := time.Until(l.Journal(ctf.Pending).Deadline()); left > 0 {
		t.Errorf("the work was told to end %v before its deadline", left)
	}
	server.Resume()
	until(t, "the store answers again", func() bool { return e.store.Ping(t.Context()) == nil })
}

func TestDeadlineMovesOnWhileTheLeaseIsRefreshed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	e.store = open(t, e.url, e.keys, time.Second)
	c := e.create(t, newChallenge("c"))
	l := e.lease(t, c, e.reserve(t, c, alice).Instance.Key.Identity)
	j := l.Journal(ctf.Pending)
	first := j.Deadline()
	until(t, "the deadline moved on", func() bool { return j.Deadline().After(first) })
	if left := time.Until(j.Deadline()); left > time.Second {
		t.Errorf("the deadline is %v away, beyond the lease's time to live", left)
	}
}

func testCheckpoint(t *testing.T, e env) {
	ctx := t.Context()
	c := e.create(t, newChallenge("c"))
	id := e.reserve(t, c, alice).Instance.Key.Identity
	l := e.lease(t, c, id)
	j := l.Journal(ctf.Pending)
	for _, entry := range []string{"one", "two", "three"} {
		check(t, j.Append(ctx, []byte(entry)))
	}
	load := func() ctf.Checkpoint {
		w, err := l.Load(ctx)
		check(t, err)
		return w.Checkpoint
	}
	want := ctf.Checkpoint{Journal: [][]byte{[]byte("one"), []byte("two"), []byte("three")}}
	if d := cmp.Diff(want, load()); d != "" {
		t.Fatal(d)
	}
	check(t, j.Rebase(ctx, []byte("base")))
	check(t, j.Append(ctx, []byte("four")))
	want = ctf.Checkpoint{Base: []byte("base"), Journal: [][]byte{[]byte("four")}}
	if d := cmp.Diff(want, load()); d != "" {
		t.Fatal(d)
	}
	w, err := l.Load(ctx)
	check(t, err)
	_, err = l.Deployed(ctx, w, result(id))
	check(t, err)
	if d := cmp.Diff(ctf.Checkpoint{Base: result(id).Base}, load()); d != "" {
		t.Fatal(d)
	}
	check(t, l.Journal(ctf.Ready).Rebase(ctx, nil))
	if d := cmp.Diff(ctf.Checkpoint{}, load()); d != "" {
		t.Fatal(d)
	}
}
