package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// errWaited is why a create stops waiting when its time is over.
var errWaited = errors.New("the time to wait is over")

// A Turn is leave to make an instance, which is to be recorded after it was got.
// It is handed to Deploy, or ended.
type Turn struct {
	leave func()
	ended atomic.Bool
}

// End gives the turn up. It may be called again, and on nil.
func (t *Turn) End() {
	if t != nil {
		t.ended.Store(true)
		t.leave()
	}
}

// lasts tells whether there is one that was not given up.
func (t *Turn) lasts() bool { return t != nil && !t.ended.Load() }

// TryTurn returns a turn to make an instance of the challenge, if one is free.
func (l *Lifecycle) TryTurn(challenge ctf.ChallengeKey) (turn *Turn, ok bool) {
	leave, ok := l.turns.try(challenge)
	if !ok {
		return nil, false
	}
	return &Turn{leave: leave}, true
}

// WaitTurn waits for a turn to make an instance of the challenge. When too many
// wait, or it waited too long, it returns an Exhausted error that says when to
// try again.
func (l *Lifecycle) WaitTurn(ctx context.Context, challenge ctf.ChallengeKey) (*Turn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.bounds.Wait, errWaited)
	defer cancel()
	leave, err := l.turns.take(ctx, challenge, creation)
	switch {
	case errors.Is(err, errPushedOut):
		return nil, ctf.Busy(fmt.Sprintf("%d creates wait already", l.bounds.Queue), l.again())
	case errors.Is(err, errWaited):
		return nil, ctf.Busy(fmt.Sprintf("no deployment could begin within %s", l.bounds.Wait), l.again())
	case err != nil:
		return nil, err
	}
	return &Turn{leave: leave}, nil
}

// again is when to try again: at any second until those who wait now had their
// turn, or are refused. Those who are refused together are not to come back
// together.
func (l *Lifecycle) again() time.Duration {
	until := min(l.turns.drained(), l.bounds.Wait)
	return time.Second + rand.N(until+1).Truncate(time.Second)
}
