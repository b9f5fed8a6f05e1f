// Package fillpool is the function that keeps pools at their size, woken by
// what makes them short.
package fillpool

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

const (
	// budget is how long one event is worked on; a pool that is short even then
	// is asked for again.
	budget = time.Minute
	// atOnce bounds how many instances one event deploys in parallel.
	atOnce = 4
)

// Types are the events that may leave a pool short.
func Types() []ctf.EventType {
	return []ctf.EventType{ctf.ChallengeCreated, ctf.ChallengeUpdated, ctf.InstanceClaimed, ctf.InstanceDestroyed}
}

// A Function fills pools.
type Function struct {
	pool      ctf.PoolWriter
	lifecycle *lifecycle.Lifecycle
	log       *slog.Logger
}

// New returns the function.
func New(pool ctf.PoolWriter, l *lifecycle.Lifecycle, log *slog.Logger) *Function {
	return &Function{pool: pool, lifecycle: l, log: log}
}

// Handle brings the pool of the event's challenge to its size. It may be
// called at any time, any number of times, at once. A deployment that fails
// ends it without an error, because the same event would fail again at once;
// reconcile has another look. When the pool is still short after a minute it
// returns a kind Unavailable error, so that the event is delivered again.
func (f *Function) Handle(ctx context.Context, event ctf.Event) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(atOnce)
	var failed atomic.Bool
	for !failed.Load() && ctx.Err() == nil {
		id, ok, err := f.pool.ReservePooled(ctx, event.Challenge)
		if err != nil {
			_ = group.Wait() // none returns an error
			return fmt.Errorf("reserve a pooled instance: %w", err)
		}
		if !ok {
			break
		}
		group.Go(func() error {
			failed.CompareAndSwap(false, !f.deploy(ctx, ctf.InstanceKey{Challenge: event.Challenge, Identity: id}))
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable, Message: "The pool is still short.",
			Detail: "deliver the event again", Err: context.Cause(ctx)}
	}
	return nil
}

func (f *Function) deploy(ctx context.Context, key ctf.InstanceKey) bool {
	outcome, err := f.lifecycle.Settle(ctx, key)
	if err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "filling the pool is retried", "challenge", key.Challenge.ID, "identity", key.Identity, "error", err)
		return false
	}
	if err == nil && !outcome.Gone {
		f.log.InfoContext(ctx, "instance pooled", "challenge", key.Challenge.ID, "identity", key.Identity)
	}
	return err == nil
}
