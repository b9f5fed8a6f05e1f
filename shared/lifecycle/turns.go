package lifecycle

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Bounds are how much one process does at once. The zero value bounds nothing.
type Bounds struct {
	// Deployments is how many instances are deployed or updated at once.
	Deployments int
	// Destructions is how many more are destroyed at once: what is to go never
	// waits for what is to come.
	Destructions int
	// Queue is how many creates may wait for a deployment, and Wait how long each.
	Queue int
	Wait  time.Duration
}

// errPushedOut is why a create stops waiting when too many do.
var errPushedOut = errors.New("too many wait")

// turns decides who works next. There are two rooms: one for all work, one for
// destructions alone. No challenge fills a room, so that the others find a place
// whatever it does. Who waits gets in as they came, from each challenge in turn.
type turns struct {
	queue int // creations that may wait

	mu                        sync.Mutex
	all, destroying           room
	destructions, deployments line
	// destroyed: the last place in the room for all went to a destruction.
	destroyed bool
	// lasts is how long a turn in the first room lasted of late.
	lasts time.Duration
}

func newTurns(b Bounds) *turns {
	return &turns{queue: b.Queue, all: newRoom(b.Deployments), destroying: newRoom(b.Destructions)}
}

// A kind is what somebody wants to do.
type kind int

const (
	deployment kind = iota
	destruction
	// creation is a deployment of which nothing is recorded yet.
	creation
)

// A waiter is somebody whose turn has not come.
type waiter struct {
	challenge ctf.ChallengeKey
	kind      kind
	// turn gets what ends the turn.
	turn chan func()
	// out is closed when there are too many.
	out chan struct{}
}

// take waits for a turn until ctx ends, of which it returns the cause. Whoever
// got one calls leave when he is done. Of too many creations some get
// errPushedOut: each time the last of the challenge that has most.
func (t *turns) take(ctx context.Context, challenge ctf.ChallengeKey, k kind) (leave func(), err error) {
	return t.await(ctx, t.join(challenge, k))
}

func (t *turns) await(ctx context.Context, w *waiter) (leave func(), err error) {
	select {
	case leave := <-w.turn:
		return leave, nil
	case <-w.out:
		return nil, errPushedOut
	case <-ctx.Done():
		t.withdraw(w)
		return nil, context.Cause(ctx)
	}
}

// try takes a turn to create if that is free.
func (t *turns) try(challenge ctf.ChallengeKey) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.all.enter(challenge) { // whoever waits for it was let in as soon as he could
		return nil, false
	}
	return t.leaving(&t.all, challenge), true
}

func (t *turns) join(challenge ctf.ChallengeKey, k kind) *waiter {
	w := &waiter{challenge, k, make(chan func(), 1), make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(w).add(w)
	t.call()
	if k != creation {
		return w
	}
	if last := t.deployments.surplus(t.queue, challenge); last != nil {
		t.deployments.remove(last)
		close(last.out)
	}
	return w
}

func (t *turns) withdraw(w *waiter) {
	t.mu.Lock()
	waited := t.line(w).remove(w)
	t.mu.Unlock()
	if waited {
		return
	}
	select {
	case leave := <-w.turn: // it came at the same time
		leave()
	default:
	}
}

func (t *turns) line(w *waiter) *line {
	if w.kind == destruction {
		return &t.destructions
	}
	return &t.deployments
}

// call lets in everybody for whom there is a place. The lock is held.
func (t *turns) call() {
	for {
		w, in := t.next()
		if w == nil {
			return
		}
		w.turn <- t.leaving(in, w.challenge)
	}
}

// next lets a destruction into the room that is for them alone, or else whoever
// waits into the room for all: of each line in turn, so that challenges of which
// much is destroyed keep no other from creating.
func (t *turns) next() (*waiter, *room) {
	if w := t.destructions.next(&t.destroying); w != nil {
		return w, &t.destroying
	}
	lines := []*line{&t.destructions, &t.deployments}
	if t.destroyed {
		slices.Reverse(lines)
	}
	for _, l := range lines {
		if w := l.next(&t.all); w != nil {
			t.destroyed = w.kind == destruction
			return w, &t.all
		}
	}
	return nil, nil
}

func (t *turns) leaving(r *room, challenge ctf.ChallengeKey) func() {
	began := time.Now()
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if r == &t.all {
			t.lasts += (time.Since(began) - t.lasts) / 8 // the last eight count most
		}
		r.leave(challenge)
		t.call()
	})
}

// drained is how long it takes, as things go, until all who wait now to deploy
// had their turn.
func (t *turns) drained() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := 0
	for _, q := range t.deployments {
		waiting += len(q.waiters)
	}
	return time.Duration(waiting+1) * t.lasts / time.Duration(t.all.places)
}

// A room has places, of which one challenge gets no more than its share.
type room struct {
	places, share int
	taken         int
	by            map[ctf.ChallengeKey]int
}

// newRoom keeps a quarter of the places from each challenge, one at least where
// there is more than one.
func newRoom(places int) room {
	if places == 0 {
		places = math.MaxInt
	}
	return room{places: places, share: max(1, places-max(1, places/4)), by: map[ctf.ChallengeKey]int{}}
}

func (r *room) enter(challenge ctf.ChallengeKey) bool {
	if r.taken == r.places || r.by[challenge] == r.share {
		return false
	}
	r.taken++
	r.by[challenge]++
	return true
}

func (r *room) leave(challenge ctf.ChallengeKey) {
	r.taken--
	if r.by[challenge]--; r.by[challenge] == 0 {
		delete(r.by, challenge)
	}
}

// A line is who waits: the challenges in the order of their turns, and of each
// who came first. It holds no challenge of which nobody waits.
type line []queue

type queue struct {
	challenge ctf.ChallengeKey
	waiters   []*waiter
}

func (l *line) of(challenge ctf.ChallengeKey) int {
	return slices.IndexFunc(*l, func(q queue) bool { return q.challenge == challenge })
}

func (l *line) add(w *waiter) {
	n := l.of(w.challenge)
	if n < 0 {
		n = len(*l)
		*l = append(*l, queue{challenge: w.challenge})
	}
	(*l)[n].waiters = append((*l)[n].waiters, w)
}

// next takes out the first waiter that gets a place in the room; his challenge is
// the last one then.
func (l *line) next(r *room) *waiter {
	for n, q := range *l {
		if !r.enter(q.challenge) {
			continue
		}
		w := q.waiters[0]
		*l = slices.Delete(*l, n, n+1)
		if q.waiters = q.waiters[1:]; len(q.waiters) > 0 {
			*l = append(*l, q)
		}
		return w
	}
	return nil
}

func (l *line) remove(w *waiter) (found bool) {
	n := l.of(w.challenge)
	if n < 0 {
		return false
	}
	q := &(*l)[n]
	at := slices.Index(q.waiters, w)
	if at < 0 {
		return false
	}
	if q.waiters = slices.Delete(q.waiters, at, at+1); len(q.waiters) == 0 {
		*l = slices.Delete(*l, n, n+1)
	}
	return true
}

// surplus returns the creation that is one too many, if more wait than may: the
// last of the challenge that has most, of equal ones the one that came.
func (l *line) surplus(most int, came ctf.ChallengeKey) (last *waiter) {
	all, longest := 0, 0
	for _, q := range *l {
		count := 0
		var newest *waiter
		for _, w := range q.waiters {
			if w.kind == creation {
				count++
				newest = w
			}
		}
		all += count
		if count > longest || count == longest && q.challenge == came {
			longest, last = count, newest
		}
	}
	if all <= most {
		return nil
	}
	return last
}
