// Package reconcile is the function that a slow tick wakes to finish or undo
// what was interrupted.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

const (
	// budget is how long one tick waits for its work; what it began goes on.
	budget = time.Minute
	// challengesAtOnce and instancesAtOnce bound what is looked at in parallel;
	// one challenge that takes long holds up no other.
	challengesAtOnce = 32
	instancesAtOnce  = 8
	// patience is longer than the lease of a holder that died.
	patience = 30 * time.Second
	// youth is how long a record is left to the verb that wrote it, which takes
	// the lease in the next moment and is who tells its caller of a failure.
	youth = 2 * time.Second
)

// A Store is what reconcile walks over and mends.
type Store interface {
	ctf.ChallengeReader
	ctf.ChallengeWriter
	ctf.Auditor
}

// A Filler fills the pool of a challenge.
type Filler interface {
	Handle(ctx context.Context, event ctf.Event) error
}

// A Function reconciles.
type Function struct {
	store     Store
	lifecycle *lifecycle.Lifecycle
	pools     Filler
	announce  ctf.Announcer
	orphans   Orphans
	log       *slog.Logger
}

// New returns the function.
func New(store Store, l *lifecycle.Lifecycle, pools Filler, announce ctf.Announcer, o Orphans, log *slog.Logger) *Function {
	return &Function{store: store, lifecycle: l, pools: pools, announce: announce, orphans: o, log: log}
}

// Handle walks over all that is stored. Instances that are pending, updating
// or deleting are settled: their holder, if it lives, is left to it; if it
// died, its work is finished here. Challenges whose deletion was begun are
// removed, indexes repaired, pools topped up, events published, and what runs
// without a record is destroyed. In the end the fast tick is turned on if
// something is due before the next reconcile. It may be called at any time, any
// number of times, at once.
func (f *Function) Handle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(challengesAtOnce)
	var failed error
	for challenge, err := range f.challenges(ctx) {
		if err != nil {
			failed = err
			break
		}
		group.Go(func() error {
			if err := f.challenge(ctx, challenge); err != nil {
				return fmt.Errorf("challenge %q: %w", challenge.Key.ID, err)
			}
			return nil
		})
	}
	return errors.Join(failed, group.Wait(), f.removeOrphans(ctx), f.store.RepairTick(ctx))
}

func (f *Function) challenges(ctx context.Context) iter.Seq2[ctf.Challenge, error] {
	return func(yield func(ctf.Challenge, error) bool) {
		for tenant, err := range f.store.Tenants(ctx) {
			if err != nil {
				yield(ctf.Challenge{}, fmt.Errorf("list tenants: %w", err))
				return
			}
			for challenge, err := range f.store.Challenges(ctx, tenant) {
				if !yield(challenge, err) || err != nil {
					return
				}
			}
		}
	}
}

func (f *Function) challenge(ctx context.Context, c ctf.Challenge) error {
	defer f.announce.Announce(c.Key)
	if err := f.store.RepairIndexes(ctx, c.Key); err != nil {
		return fmt.Errorf("repair indexes: %w", err)
	}
	if err := f.instances(ctx, c.Key); err != nil {
		return err
	}
	if c.Deleting {
		_, err := f.store.RemoveChallenge(ctx, c.Key)
		if e, ok := errors.AsType[*ctf.Error](err); ok && e.Kind == ctf.Conflict {
			return nil // somebody is still at work on an instance
		}
		if err != nil {
			return fmt.Errorf("remove it: %w", err)
		}
		return nil
	}
	return f.pools.Handle(ctx, ctf.Event{Type: ctf.ChallengeUpdated, Challenge: c.Key})
}

func (f *Function) instances(ctx context.Context, key ctf.ChallengeKey) error {
	var group errgroup.Group
	group.SetLimit(instancesAtOnce)
	var failed error
	for entry, err := range f.store.All(ctx, key) {
		if err != nil {
			failed = fmt.Errorf("list instances: %w", err)
			break
		}
		switch entry.Instance.State {
		case ctf.Pending, ctf.Updating, ctf.Deleting:
			group.Go(func() error { f.settle(ctx, entry); return nil })
		case ctf.Ready, ctf.Failed: // at rest
		}
	}
	return errors.Join(failed, group.Wait())
}

// settle finishes one instance; a failure is recorded with it, and is no
// reason to stop.
func (f *Function) settle(ctx context.Context, entry ctf.AuditEntry) {
	if !entry.Leased && entry.Age < youth {
		select {
		case <-time.After(youth - entry.Age):
		case <-ctx.Done():
			return
		}
	}
	log := f.log.With("challenge", entry.Instance.Key.Challenge.ID, "identity", entry.Instance.Key.Identity, "state", entry.Instance.State)
	switch _, err := f.lifecycle.Finish(ctx, entry.Instance.Key, patience); {
	case errors.Is(err, lifecycle.ErrHeld):
	case err != nil:
		log.WarnContext(ctx, "settling an instance failed", "error", err)
	case !entry.Leased:
		log.InfoContext(ctx, "interrupted work finished", "age", entry.Age)
	}
}
