// Package expire is the function that a tick wakes to destroy what is due.
package expire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

const (
	// budget is how long one tick waits for its work. What it began goes on, and
	// what it did not come to is due at the next tick.
	budget = time.Minute
	// atOnce bounds how many instances one tick destroys in parallel.
	atOnce = 16
	// patience is longer than the lease of a holder that died.
	patience = 30 * time.Second
)

// A Function destroys what is due.
type Function struct {
	due       ctf.DueReader
	lifecycle *lifecycle.Lifecycle
	log       *slog.Logger
}

// New returns the function.
func New(due ctf.DueReader, l *lifecycle.Lifecycle, log *slog.Logger) *Function {
	return &Function{due: due, lifecycle: l, log: log}
}

// Handle destroys every instance whose end has passed and every one whose
// deletion was left unfinished. It may be called at any time, any number of
// times, at once. One instance that can't be destroyed, or challenge that
// can't be read, keeps no other from being so: it is tried again later. In the
// end the tick is turned off, unless something is due soon.
func (f *Function) Handle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(atOnce)
	var failed error
	for key, err := range f.due.Due(ctx) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("find what is due: %w", err))
			continue
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			f.destroy(ctx, key)
			return nil
		})
	}
	return errors.Join(failed, group.Wait(), f.due.RestTick(ctx))
}

// destroy logs how it went. What a tick that is over leaves goes on, and is
// looked at again.
func (f *Function) destroy(ctx context.Context, key ctf.InstanceKey) {
	outcome, err := f.lifecycle.Finish(ctx, key, patience)
	switch {
	case ctx.Err() != nil, errors.Is(err, lifecycle.ErrHeld):
	case err != nil:
		f.log.WarnContext(ctx, "destroying an instance is retried", "challenge", key.Challenge.ID, "identity", key.Identity, "error", err)
	case outcome.Destroyed:
		f.log.InfoContext(ctx, "instance destroyed", "challenge", key.Challenge.ID, "identity", key.Identity)
	}
}
