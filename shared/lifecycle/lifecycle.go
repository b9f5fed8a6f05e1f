// Package lifecycle brings one instance to where its record asks: deployed,
// updated, or destroyed and forgotten. The verbs record wishes; this package
// alone fulfils them, under the instance's lease. It knows the roles of
// package ctf, and nothing of Redis or Pulumi.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// retries is how often work is tried again when a part of the system went away
// under it, a worker for instance. The journal makes that safe.
const retries = 3

// attempts is how many times an instance is begun to be deployed or updated.
// After so many whose process died, or whose time ran out, it has failed. Each
// lease counts that is not excused, so there are enough for a while in which leases
// are lost.
const attempts = 16

// turnKept is how long a turn is kept while somebody else is at work on the
// instance that it is for.
const turnKept = time.Second

// atOnce is how many instances one call settles in parallel.
const atOnce = 16

// ErrHeld is what Finish returns while somebody else is at work.
var ErrHeld = errors.New("somebody else is at work on the instance")

// A Store leases instances, and takes what is left of the work on them.
type Store interface {
	ctf.Leaser
	ctf.Relay
}

// A Lifecycle settles instances.
type Lifecycle struct {
	store    Store
	engine   ctf.Engine
	announce ctf.Announcer
	bounds   Bounds
	turns    *turns
	limit    time.Duration

	running sync.WaitGroup
	// lasting ends when work in progress is to be handed over, and none to begin.
	lasting context.Context
	end     context.CancelCauseFunc
}

// New returns a Lifecycle that gives up on an instance after limit; what it
// leaves is finished by whoever settles the instance next.
func New(store Store, engine ctf.Engine, announce ctf.Announcer, b Bounds, limit time.Duration) *Lifecycle {
	l := &Lifecycle{store: store, engine: engine, announce: announce, bounds: b, turns: newTurns(b), limit: limit}
	l.lasting, l.end = context.WithCancelCause(context.Background())
	return l
}

// An Outcome is how an instance was left.
type Outcome struct {
	// Instance is the record, unless Gone.
	Instance ctf.Instance
	// Gone: there is no such instance, now.
	Gone bool
	// Destroyed: it was this call that destroyed it.
	Destroyed bool
	// Interrupted: this call lost its lease, or did not hear what had become of a step,
	// or somebody else had failed at it or left nothing. So nobody may have deleted what
	// is gone.
	Interrupted bool
}

// Settle brings an instance to where its record asks, waiting for its lease
// first. It may be called any number of times, by anybody, at once: one works,
// the others find the work done. The error is why the record's wish could not
// be fulfilled; the Outcome is valid all the same.
//
// When ctx ends Settle returns its cause, but the work goes on; see Drain. When
// the limit ends the work, or it lost its lease too often, it is handed on.
func (l *Lifecycle) Settle(ctx context.Context, key ctf.InstanceKey) (Outcome, error) {
	return l.Deploy(ctx, nil, key)
}

// Deploy is Settle for an instance that was made in a turn, which ends with the
// work.
func (l *Lifecycle) Deploy(ctx context.Context, turn *Turn, key ctf.InstanceKey) (Outcome, error) {
	return wait(ctx, l.start(ctx, turn, key, l.limit, l.handOn))
}

// Finish is Settle for work that somebody else may be at. When that one does
// not give the lease up within patience, he lives, and Finish returns ErrHeld.
// Nothing is handed on: what was handed on once would come again and again.
func (l *Lifecycle) Finish(ctx context.Context, key ctf.InstanceKey, patience time.Duration) (Outcome, error) {
	return wait(ctx, l.start(ctx, nil, key, patience, nil))
}

// SettleAll settles many instances of a challenge, a few at once, and returns
// all that went wrong. When ctx ends it returns its cause; what was begun goes
// on, and the rest is handed on, all of it at once; so is what lost its lease too
// often.
func (l *Lifecycle) SettleAll(ctx context.Context, challenge ctf.ChallengeKey, ids []ctf.Identity) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	failures := make([]error, len(ids))
	for i, id := range ids {
		if ctx.Err() != nil {
			failures[i] = context.Cause(ctx)
			break
		}
		group.Go(func() error {
			if failures[i] = context.Cause(ctx); failures[i] == nil { // else it ended before this one's turn
				_, failures[i] = wait(ctx, l.start(ctx, nil, ctf.InstanceKey{Challenge: challenge, Identity: id}, l.limit, nil))
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in failures
	err := errors.Join(failures...)
	if err != nil && (ctx.Err() != nil || errors.Is(err, ctf.ErrLeaseLost)) {
		err = errors.Join(err, l.handOn(ctx, challenge))
		l.announce.Announce(challenge)
	}
	return err
}

// handOn has work that is left gone on with elsewhere.
func (l *Lifecycle) handOn(ctx context.Context, challenge ctf.ChallengeKey) error {
	if err := l.store.HandOn(context.WithoutCancel(ctx), challenge); err != nil {
		return fmt.Errorf("hand on what is left: %w", err)
	}
	return nil
}

// Start begins what Settle does and does not wait for it. It is for deletions,
// which expire looks after.
func (l *Lifecycle) Start(ctx context.Context, key ctf.InstanceKey) {
	l.start(ctx, nil, key, l.limit, nil)
}

// Validate runs a scenario without making anything, in a turn like any other. A
// scenario that can't be run with these settings is a Scenario* error.
func (l *Lifecycle) Validate(ctx context.Context, key ctf.ChallengeKey, scenario ctf.Scenario, additional map[string]string) error {
	leave, err := l.turns.take(ctx, key, deployment)
	if err != nil {
		return err
	}
	defer leave()
	return l.engine.Preview(ctx, ctf.Program{
		Scenario:   scenario,
		Instance:   ctf.InstanceKey{Challenge: key, Identity: ctf.NewIdentity()},
		Additional: additional,
	})
}

// Discard destroys whatever is left of an instance that has no record. It may
// be called again.
func (l *Lifecycle) Discard(ctx context.Context, key ctf.InstanceKey) error {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	leave, err := l.turns.take(ctx, key.Challenge, destruction)
	if err != nil {
		return fmt.Errorf("wait to destroy what is left of %s: %w", key.Identity, err)
	}
	defer leave()
	deadline, _ := ctx.Deadline()
	if err := l.engine.Down(ctx, key, ctf.Checkpoint{}, unrecorded{deadline}); err != nil {
		return fmt.Errorf("destroy what is left of %s: %w", key.Identity, err)
	}
	return nil
}

// An unrecorded journal takes nothing down: what is destroyed without a record
// is found again by what is left of it.
type unrecorded struct{ deadline time.Time }

func (unrecorded) Append(context.Context, []byte) error { return nil }
func (unrecorded) Rebase(context.Context, []byte) error { return nil }
func (u unrecorded) Deadline() time.Time                { return u.deadline }

// settle waits for the lease until waiting ends, and works until ctx ends. When
// it loses the lease it waits again, to find out how the other one got on.
func (l *Lifecycle) settle(ctx, waiting context.Context, turn *Turn, key ctf.InstanceKey) (Outcome, error) {
	for losses := 0; ; losses++ {
		outcome, err := l.settleOnce(ctx, waiting, turn, key)
		outcome.Interrupted = outcome.Interrupted || losses > 0
		if !errors.Is(err, ctf.ErrLeaseLost) {
			return outcome, err
		}
		if losses == retries {
			return outcome, &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
				Message: "The work on the instance was interrupted.", Detail: "it is begun, and goes on: try again in a moment", Err: err}
		}
	}
}

func (l *Lifecycle) settleOnce(ctx, waiting context.Context, turn *Turn, key ctf.InstanceKey) (Outcome, error) {
	var since time.Time
	lease, err := l.store.Lease(waiting, key, func() {
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) >= turnKept {
			turn.End() // whoever has the lease may be waiting for it
		}
	})
	if isGone(err) {
		return Outcome{Gone: true, Interrupted: true}, nil
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("lease instance %s: %w", key.Identity, err)
	}
	defer lease.Release()

	var failure error
	interrupted := false
	for tries := 1; ; tries++ {
		work, err := lease.Load(ctx)
		if isGone(err) {
			return Outcome{Gone: true, Interrupted: true}, failure
		}
		if err != nil {
			return Outcome{}, errors.Join(failure, fmt.Errorf("load instance %s: %w", key.Identity, err))
		}
		job := job{l, lease, work, turn, tries > retries}
		switch work.Instance.State {
		case ctf.Pending:
			err = job.deploy(ctx)
		case ctf.Updating:
			err = job.update(ctx)
		case ctf.Deleting:
			interrupted = interrupted || work.Instance.Failure != "" // it was given up
			if err = job.destroy(ctx); err == nil {
				return Outcome{Gone: true, Destroyed: true, Interrupted: interrupted}, failure
			}
		case ctf.Failed:
			if work.Checkpoint.IsEmpty() {
				return Outcome{Instance: work.Instance}, failure
			}
			err = job.clear(ctx)
		default:
			return Outcome{Instance: work.Instance}, failure
		}
		var recorded *recordedError
		switch {
		case err == nil, errors.Is(err, ctf.ErrSuperseded):
		case errors.As(err, &recorded) && work.Instance.State != ctf.Deleting:
			failure = recorded.error
		case isAway(err) && tries <= retries:
			interrupted = true
		case failure != nil:
			return Outcome{Instance: work.Instance}, failure
		default:
			return Outcome{Instance: work.Instance}, err
		}
	}
}

// A recordedError is a failure that the record tells of; what it asks for now
// is another thing.
type recordedError struct{ error }

func (e *recordedError) Unwrap() error { return e.error }

func isGone(err error) bool { return ctf.ReasonOf(err) == ctf.ReasonInstanceNotFound }

// isAway tells whether a part of the system went away, so that the same work
// may succeed when tried again.
func isAway(err error) bool { return ctf.ReasonOf(err) == ctf.ReasonUnavailable }
