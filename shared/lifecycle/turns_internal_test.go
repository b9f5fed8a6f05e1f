package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func challenge(id string) ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}
}

// A guest asked for a turn.
type guest struct {
	*waiter

	name string
	got  chan func()
	err  chan error
}

// asks has somebody ask for a turn, after all who asked before.
func asks(ctx context.Context, turns *turns, id string, k kind) *guest {
	g := &guest{turns.join(challenge(id), k), id, make(chan func(), 1), make(chan error, 1)}
	go func() {
		leave, err := turns.await(ctx, g.waiter)
		if err != nil {
			g.err <- err
			return
		}
		g.got <- leave
	}()
	return g
}

func (t *turns) waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range []line{t.deployments, t.destructions} {
		for _, q := range l {
			n += len(q.waiters)
		}
	}
	return n
}

// has waits until a guest has a turn.
func has(t *testing.T, g *guest) (leave func()) {
	t.Helper()
	select {
	case leave := <-g.got:
		return leave
	case err := <-g.err:
		t.Fatalf("%s is refused: %v", g.name, err)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s has no turn", g.name)
	}
	return nil
}

func wantRefused(t *testing.T, g *guest, want error) {
	t.Helper()
	select {
	case err := <-g.err:
		if !errors.Is(err, want) {
			t.Errorf("%s got %v, want %v", g.name, err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s is not refused", g.name)
	}
}

func wantWaiting(t *testing.T, turns *turns, guests ...*guest) {
	t.Helper()
	turns.mu.Lock()
	defer turns.mu.Unlock()
	for _, g := range guests {
		if !slices.ContainsFunc(*turns.line(g.waiter), func(q queue) bool { return slices.Contains(q.waiters, g.waiter) }) {
			t.Errorf("%s does not wait", g.name)
		}
	}
}

// Who comes first is first, and no challenge waits for all of another's.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	turns := newTurns(Bounds{Deployments: 1, Destructions: 1, Queue: 10})
	leave := has(t, asks(t.Context(), turns, "a", creation))
	waiting := map[string]*guest{}
	for _, name := range []string{"a1", "a2", "a3", "b1", "c1", "b2"} {
		waiting[name] = asks(t.Context(), turns, name[:1], creation)
	}
	for _, name := range []string{"a1", "b1", "c1", "a2", "b2", "a3"} {
		leave()
		leave = has(t, waiting[name])
	}
	leave()
	if left := turns.waiting() + turns.all.taken + len(turns.all.by) + len(turns.deployments); left != 0 {
		t.Errorf("something is left: %+v", turns)
	}
}

// A challenge that holds all that it may holds up no other.
func TestTurnsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	for places, share := range map[int]int{1: 1, 2: 1, 3: 2, 4: 3, 8: 6, 24: 18} {
		turns := newTurns(Bounds{Deployments: places, Destructions: 1, Queue: 10})
		for range share {
			has(t, asks(t.Context(), turns, "greedy", deployment))
		}
		more := asks(t.Context(), turns, "greedy", deployment)
		for range places - share {
			has(t, asks(t.Context(), turns, "modest", creation))
		}
		wantWaiting(t, turns, more)
	}
}

// What is to go never waits for what is to come, nor for what another challenge
// can't get rid of.
func TestTurnsOfDestructions(t *testing.T) {
	t.Parallel()
	turns := newTurns(Bounds{Deployments: 4, Destructions: 2, Queue: 10})
	var leaves []func()
	for _, name := range []string{"a", "b", "a", "b"} {
		leaves = append(leaves, has(t, asks(t.Context(), turns, name, deployment)))
	}
	created := asks(t.Context(), turns, "c", creation)
	has(t, asks(t.Context(), turns, "a", destruction))
	stuck := asks(t.Context(), turns, "a", destruction)
	has(t, asks(t.Context(), turns, "b", destruction))
	wantWaiting(t, turns, stuck, created)
	leaves[0]()
	leave := has(t, stuck) // though the other came first
	wantWaiting(t, turns, created)
	leave()
	has(t, created)
}

// Much is destroyed of two challenges: a third one's creation comes to its turn.
func TestTurnsOfManyDestructions(t *testing.T) {
	t.Parallel()
	turns := newTurns(Bounds{Deployments: 4, Destructions: 2, Queue: 10})
	var leaves []func()
	for range 3 {
		leaves = append(leaves, has(t, asks(t.Context(), turns, "a", destruction)), has(t, asks(t.Context(), turns, "b", destruction)))
	}
	more := []*guest{asks(t.Context(), turns, "a", destruction), asks(t.Context(), turns, "b", destruction)}
	created := asks(t.Context(), turns, "c", creation)
	wantWaiting(t, turns, append(more, created)...)
	for _, leave := range leaves[2:4] { // those in the room for all
		leave()
	}
	has(t, created)
}

// Who leaves the queue, or comes to his turn as he leaves, keeps nobody.
func TestTurnsOfWhoLeaves(t *testing.T) {
	t.Parallel()
	turns := newTurns(Bounds{Deployments: 1, Destructions: 1, Queue: 10})
	leave := has(t, asks(t.Context(), turns, "a", creation))
	ctx, end := context.WithCancelCause(t.Context())
	left := errors.New("he left")
	leaving, staying := asks(ctx, turns, "a", creation), asks(t.Context(), turns, "a", creation)
	end(left)
	wantRefused(t, leaving, left)
	leave()
	has(t, staying)()

	var group sync.WaitGroup
	for n := range 200 {
		ctx, end := context.WithCancel(t.Context())
		group.Go(func() {
			if leave, err := turns.take(ctx, challenge(fmt.Sprint(n%3)), kind(n%3)); err == nil {
				leave()
			}
		})
		group.Go(end)
	}
	group.Wait()
	if turns.waiting() != 0 || turns.all.taken != 0 || turns.destroying.taken != 0 {
		t.Errorf("something is left: %+v", turns)
	}
}

// When too many creates wait, those of the challenge with most make way; nothing
// else is ever pushed out.
func TestTurnsWhenTooManyWait(t *testing.T) {
	t.Parallel()
	turns := newTurns(Bounds{Deployments: 1, Destructions: 1, Queue: 3})
	leave := has(t, asks(t.Context(), turns, "a", creation))
	first, second, third := asks(t.Context(), turns, "a", creation), asks(t.Context(), turns, "a", creation), asks(t.Context(), turns, "a", creation)
	wantRefused(t, asks(t.Context(), turns, "a", creation), errPushedOut)
	recorded := asks(t.Context(), turns, "a", deployment)
	other := asks(t.Context(), turns, "b", creation)
	wantRefused(t, third, errPushedOut)
	wantRefused(t, asks(t.Context(), turns, "a", creation), errPushedOut)
	more := asks(t.Context(), turns, "b", creation)
	wantRefused(t, more, errPushedOut) // there would be as many of b as of a: who came last goes
	wantWaiting(t, turns, first, second, recorded, other)
	for _, g := range []*guest{first, other, second, recorded} {
		leave()
		leave = has(t, g)
	}
}

// A create waits as long as it may and is told when to come again.
func TestWaitTurn(t *testing.T) {
	t.Parallel()
	const wait = 3 * time.Second
	for name, b := range map[string]Bounds{
		"nobody may wait": {Deployments: 1, Destructions: 1, Wait: time.Hour},
		"not for long":    {Deployments: 1, Destructions: 1, Queue: 1, Wait: time.Millisecond},
	} {
		l := New(nil, nil, nil, b, time.Minute)
		l.bounds.Wait = min(b.Wait, wait)
		turn, ok := l.TryTurn(challenge("a"))
		if !ok {
			t.Fatalf("%s: no turn is free", name)
		}
		if _, ok := l.TryTurn(challenge("b")); ok {
			t.Fatalf("%s: another one is", name)
		}
		_, err := l.WaitTurn(t.Context(), challenge("b"))
		busy, ok := errors.AsType[*ctf.Error](err)
		if !ok || busy.Reason != ctf.ReasonExhausted || busy.RetryAfter < time.Second || busy.RetryAfter > time.Second+wait {
			t.Errorf("%s: %v, again after %v", name, err, busy.RetryAfter)
		}
		turn.End()
		turn.End()
		if turn, err = l.WaitTurn(t.Context(), challenge("b")); err != nil && b.Queue > 0 {
			t.Errorf("%s: %v", name, err)
		}
		turn.End()
	}
}
