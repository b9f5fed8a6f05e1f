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
	// hopeless is how old an event may be that is still to be delivered again when
	// nothing has come to an end: older than any work that was begun because of it.
	hopeless = 10 * time.Minute
)

// Types are the events that say which challenge to go on with.
func Types() []ctf.EventType { return []ctf.EventType{ctf.ChallengeUnsettled} }

// A Store is what reconcile walks over and mends.
type Store interface {
	ctf.ChallengeReader
	ctf.ChallengeWriter
	ctf.Auditor
	ctf.Relay
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
	inventory Inventory
	log       *slog.Logger
	budget    time.Duration
}

// New returns the function.
func New(store Store, l *lifecycle.Lifecycle, pools Filler, announce ctf.Announcer, i Inventory, log *slog.Logger) *Function {
	return &Function{store: store, lifecycle: l, pools: pools, announce: announce, inventory: i, log: log, budget: budget}
}

// Handle walks over all that is stored. Instances that are pending, updating
// or deleting are settled: their holder, if it lives, is left to it; if it
// died, its work is finished here. Challenges whose deletion was begun are
// removed, indexes repaired, pools topped up, events published, what runs
// without a record is destroyed, and what is on record and does not run is seen
// to. In the end the fast tick is turned on if
// something is due before the next reconcile. What it does not come to within a
// minute is handed on, an event for each challenge, see GoOn. It may be called at
// any time, any number of times, at once.
func (f *Function) Handle(ctx context.Context) error {
	working, cancel := context.WithTimeout(ctx, f.budget)
	defer cancel()
	var comparing errgroup.Group // beside the walk, which may need all of the time every time
	comparing.Go(func() error { return f.compare(working) })
	failed := f.walk(ctx, working)
	err := comparing.Wait()
	if working.Err() == nil || ctx.Err() != nil { // else its time was over, and the next tick does the rest
		failed = errors.Join(failed, err)
	}
	return errors.Join(failed, f.store.RepairTick(ctx))
}

// walk sees to every challenge until working ends, and hands the others on.
func (f *Function) walk(ctx, working context.Context) error {
	var group errgroup.Group
	group.SetLimit(challengesAtOnce)
	var failed error
	for challenge, err := range f.challenges(ctx) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		group.Go(func() error {
			_, err := f.challenge(working, challenge)
			if working.Err() != nil && ctx.Err() == nil {
				err = f.handOn(ctx, challenge.Key)
			}
			if err != nil {
				return fmt.Errorf("challenge %q: %w", challenge.Key.ID, err)
			}
			return nil
		})
	}
	return errors.Join(failed, group.Wait())
}

// GoOn is Handle for the challenge of an event that says that work on it is left.
// What a minute is too short for is handed on once more as long as some of it
// comes to an end. Otherwise GoOn returns a kind Unavailable error, so that the
// event is delivered again; when it is old, the rest is left to the next tick.
func (f *Function) GoOn(ctx context.Context, event ctf.Event) error {
	challenge, err := f.store.Challenge(ctx, event.Challenge)
	if ctf.ReasonOf(err) == ctf.ReasonChallengeNotFound {
		return nil
	}
	if err != nil {
		return f.again(ctx, event, err)
	}
	before, _, err := f.unsettled(ctx, event.Challenge)
	if err != nil && !errors.Is(err, ctf.ErrUnreadable) {
		return f.again(ctx, event, err)
	}
	working, cancel := context.WithTimeout(ctx, f.budget)
	defer cancel()
	done, failed := f.challenge(working, challenge)
	if working.Err() != nil {
		failed = nil // its time is over, which is none of its own
	}
	after, left, err := f.unsettled(ctx, event.Challenge)
	switch failed = errors.Join(failed, err); {
	case failed == nil && left == 0 && (done || !challenge.Deleting):
		return nil
	case after < before && (failed == nil || errors.Is(failed, ctf.ErrUnreadable)):
		return f.handOn(ctx, event.Challenge)
	case failed != nil:
		return f.again(ctx, event, failed)
	}
	return f.again(ctx, event, &ctf.Error{
		Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable, Message: "Work is left.", Detail: "deliver the event again",
	})
}

// again has an event delivered again because of err, unless it is old.
func (f *Function) again(ctx context.Context, event ctf.Event, err error) error {
	now, unknown := f.store.Now(ctx)
	if unknown != nil || now.Sub(event.At) <= hopeless {
		return errors.Join(err, unknown)
	}
	f.log.WarnContext(ctx, "work is left to the next tick", "challenge", event.Challenge.ID, "error", err)
	return nil
}

// handOn has what is left of a challenge gone on with soon.
func (f *Function) handOn(ctx context.Context, key ctf.ChallengeKey) error {
	if err := f.store.HandOn(ctx, key); err != nil {
		return fmt.Errorf("hand on what is left: %w", err)
	}
	f.announce.Announce(key)
	f.log.InfoContext(ctx, "work is handed on", "challenge", key.ID)
	return nil
}

// unsettled counts the instances of a challenge that are not where their records
// ask, and those of them that nobody is at.
func (f *Function) unsettled(ctx context.Context, key ctf.ChallengeKey) (all, left int, err error) {
	for entry, err := range f.store.All(ctx, key) {
		if err != nil {
			return all, left, fmt.Errorf("list instances: %w", err)
		}
		if isAtRest(entry) {
			continue
		}
		all++
		if !entry.Leased && entry.Age >= youth {
			left++
		}
	}
	return all, left, nil
}

// isAtRest tells whether nothing is left to be done. Of a failed instance something
// may be deployed, which is to be destroyed.
func isAtRest(entry ctf.AuditEntry) bool {
	return entry.Instance.State == ctf.Ready || entry.Instance.State == ctf.Failed && !entry.Deployed
}

// challenges yields all that there are. A tenant's error is no reason to stop: it
// comes after all of his that can be read.
func (f *Function) challenges(ctx context.Context) iter.Seq2[ctf.Challenge, error] {
	return func(yield func(ctf.Challenge, error) bool) {
		for tenant, err := range f.store.Tenants(ctx) {
			if err != nil {
				yield(ctf.Challenge{}, fmt.Errorf("list tenants: %w", err))
				return
			}
			for challenge, err := range f.store.Challenges(ctx, tenant) {
				if !yield(challenge, err) {
					return
				}
			}
		}
	}
}

// challenge does what Handle does of one challenge. It is not done with one that
// is to go while somebody is still at work on an instance. An instance that can't
// be read is an error once all else is done.
func (f *Function) challenge(ctx context.Context, c ctf.Challenge) (done bool, err error) {
	defer f.announce.Announce(c.Key)
	if err = f.store.RepairIndexes(ctx, c.Key); err != nil {
		err = fmt.Errorf("repair indexes: %w", err)
	}
	err = errors.Join(err, f.instances(ctx, c.Key))
	if !c.Deleting {
		return true, errors.Join(err, f.pools.Handle(ctx, ctf.Event{Type: ctf.ChallengeUpdated, Challenge: c.Key}))
	}
	_, removing := f.store.RemoveChallenge(ctx, c.Key, c.Incarnation)
	if e, ok := errors.AsType[*ctf.Error](removing); ok && e.Kind == ctf.Conflict {
		return false, err
	}
	if removing != nil {
		return false, errors.Join(err, fmt.Errorf("remove it: %w", removing))
	}
	return true, err
}

func (f *Function) instances(ctx context.Context, key ctf.ChallengeKey) error {
	var group errgroup.Group
	group.SetLimit(instancesAtOnce)
	var failed error
	var leased []ctf.AuditEntry // their turn comes last: waiting for those who live keeps no other from being begun
	for entry, err := range f.store.All(ctx, key) {
		switch {
		case err != nil:
			failed = fmt.Errorf("list instances: %w", err)
		case isAtRest(entry):
		case entry.Leased:
			leased = append(leased, entry)
		default:
			group.Go(func() error { f.settle(ctx, entry); return nil })
		}
	}
	for _, entry := range leased {
		group.Go(func() error { f.settle(ctx, entry); return nil })
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
	if ctx.Err() != nil {
		return // it is not begun
	}
	log := f.log.With("challenge", entry.Instance.Key.Challenge.ID, "identity", entry.Instance.Key.Identity, "state", entry.Instance.State)
	switch _, err := f.lifecycle.Finish(ctx, entry.Instance.Key, patience); {
	case ctx.Err() != nil, errors.Is(err, lifecycle.ErrHeld): // somebody is at it, here or elsewhere
	case err != nil:
		log.WarnContext(ctx, "settling an instance failed", "error", err)
	case !entry.Leased:
		log.InfoContext(ctx, "interrupted work finished", "age", entry.Age)
	}
}
