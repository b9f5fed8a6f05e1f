package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// linger is how long work waits for a lease after its caller left: longer than
// it takes the lease of a dead process to run out.
const linger = 30 * time.Second

// handOver is how long work gets to let go of what it is at.
const handOver = 5 * time.Second

// errStopping is why work ends before its time.
var errStopping = &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
	Message: "The function stops.", Detail: "what was begun goes on elsewhere; try again in a moment"}

type result struct {
	outcome Outcome
	err     error
}

// start begins to settle an instance. When the limit ends the work, or it lost its
// lease too often, left is told of its challenge, if there is one to be told. When
// Drain ends it, it is handed on in any case: who does such work here does it no more.
func (l *Lifecycle) start(
	ctx context.Context, turn *Turn, key ctf.InstanceKey, patience time.Duration, left func(context.Context, ctf.ChallengeKey) error,
) <-chan result {
	done := make(chan result, 1)
	l.running.Go(func() {
		defer turn.End()
		lasting, stop := context.WithCancelCause(context.WithoutCancel(ctx))
		defer stop(nil)
		defer context.AfterFunc(l.lasting, func() { stop(context.Cause(l.lasting)) })() //nolint:contextcheck // it is why the work ends, whoever asked for it
		working, cancel := context.WithTimeout(lasting, l.limit)
		defer cancel()
		waiting, cancel := context.WithTimeoutCause(working, patience, ErrHeld)
		defer cancel()
		defer context.AfterFunc(ctx, func() {
			select {
			case <-time.After(linger):
				cancel()
			case <-waiting.Done():
			}
		})()
		outcome, err := l.settle(working, waiting, turn, key)
		switch {
		case err == nil || working.Err() == nil && !errors.Is(err, ctf.ErrLeaseLost):
		case lasting.Err() != nil:
			err = errors.Join(err, l.handOn(ctx, key.Challenge))
		case left != nil:
			err = errors.Join(err, left(ctx, key.Challenge))
		}
		l.announce.Announce(key.Challenge)
		done <- result{outcome, err}
	})
	return done
}

func wait(ctx context.Context, done <-chan result) (Outcome, error) {
	select {
	case r := <-done:
		return r.outcome, r.err
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
}

// Drain waits until no work is running; none may begin meanwhile. When ctx ends
// first, what still runs stops where it is, which is on record, and is handed
// on; Drain returns the cause, a moment later at most, and no work begins after it.
func (l *Lifecycle) Drain(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		l.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	l.end(errStopping)
	select {
	case <-idle:
	case <-time.After(handOver): // its lease runs out
	}
	return fmt.Errorf("wait for running deployments: %w", context.Cause(ctx))
}
