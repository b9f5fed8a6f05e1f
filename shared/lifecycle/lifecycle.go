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

// linger is how long work waits for a lease after its caller left: longer than
// it takes the lease of a dead process to run out.
const linger = 30 * time.Second

// atOnce is how many instances one call settles in parallel.
const atOnce = 16

// ErrHeld is what Finish returns while somebody else is at work.
var ErrHeld = errors.New("somebody else is at work on the instance")

// A Lifecycle settles instances.
type Lifecycle struct {
	leases   ctf.Leaser
	engine   ctf.Engine
	announce ctf.Announcer
	limit    time.Duration

	running sync.WaitGroup
}

// New returns a Lifecycle that gives up on an instance after limit; what it
// leaves is finished by whoever settles the instance next.
func New(leases ctf.Leaser, engine ctf.Engine, announce ctf.Announcer, limit time.Duration) *Lifecycle {
	return &Lifecycle{leases: leases, engine: engine, announce: announce, limit: limit}
}

// An Outcome is how an instance was left.
type Outcome struct {
	// Instance is the record, unless Gone.
	Instance ctf.Instance
	// Gone: there is no such instance, now.
	Gone bool
	// Destroyed: it was this call that destroyed it.
	Destroyed bool
}

// Settle brings an instance to where its record asks, waiting for its lease
// first. It may be called any number of times, by anybody, at once: one works,
// the others find the work done. The error is why the record's wish could not
// be fulfilled; the Outcome is valid all the same.
//
// When ctx ends Settle returns its cause, but the work goes on; see Drain.
func (l *Lifecycle) Settle(ctx context.Context, key ctf.InstanceKey) (Outcome, error) {
	return wait(ctx, l.start(ctx, key, l.limit))
}

// Finish is Settle for work that somebody else may be at. When that one does
// not give the lease up within patience, he lives, and Finish returns ErrHeld.
func (l *Lifecycle) Finish(ctx context.Context, key ctf.InstanceKey, patience time.Duration) (Outcome, error) {
	return wait(ctx, l.start(ctx, key, patience))
}

func wait(ctx context.Context, done <-chan result) (Outcome, error) {
	select {
	case r := <-done:
		return r.outcome, r.err
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
}

// SettleAll settles many instances of a challenge, a few at once, and returns
// all that went wrong. When ctx ends it returns its cause; what was begun goes
// on.
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
			_, failures[i] = l.Settle(ctx, ctf.InstanceKey{Challenge: challenge, Identity: id})
			return nil
		})
	}
	_ = group.Wait() // the errors are in failures
	return errors.Join(failures...)
}

// Start begins what Settle does and does not wait for it.
func (l *Lifecycle) Start(ctx context.Context, key ctf.InstanceKey) { l.start(ctx, key, l.limit) }

type result struct {
	outcome Outcome
	err     error
}

func (l *Lifecycle) start(ctx context.Context, key ctf.InstanceKey, patience time.Duration) <-chan result {
	done := make(chan result, 1)
	l.running.Go(func() {
		working, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.limit)
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
		outcome, err := l.settle(working, waiting, key)
		l.announce.Announce(key.Challenge)
		done <- result{outcome, err}
	})
	return done
}

// Validate runs a scenario without making anything. A scenario that can't be
// run with these settings is a Scenario* error.
func (l *Lifecycle) Validate(ctx context.Context, key ctf.ChallengeKey, scenario ctf.Scenario, additional map[string]string) error {
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

// Drain waits until no work is running, or ctx ends. No Settle may begin
// meanwhile.
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
		return fmt.Errorf("wait for running deployments: %w", context.Cause(ctx))
	}
}

// settle waits for the lease until waiting ends, and works until ctx ends. When
// it loses the lease it waits again, to find out how the other one got on.
func (l *Lifecycle) settle(ctx, waiting context.Context, key ctf.InstanceKey) (Outcome, error) {
	for losses := 0; ; losses++ {
		outcome, err := l.settleOnce(ctx, waiting, key)
		if !errors.Is(err, ctf.ErrLeaseLost) || losses == retries {
			return outcome, err
		}
	}
}

func (l *Lifecycle) settleOnce(ctx, waiting context.Context, key ctf.InstanceKey) (Outcome, error) {
	lease, err := l.leases.Lease(waiting, key)
	if isGone(err) {
		return Outcome{Gone: true}, nil
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("lease instance %s: %w", key.Identity, err)
	}
	defer lease.Release()

	var failure error
	for tries := 1; ; tries++ {
		work, err := lease.Load(ctx)
		if isGone(err) {
			return Outcome{Gone: true}, failure
		}
		if err != nil {
			return Outcome{}, errors.Join(failure, fmt.Errorf("load instance %s: %w", key.Identity, err))
		}
		job := job{l, lease, work, tries > retries}
		switch work.Instance.State {
		case ctf.Pending:
			err = job.deploy(ctx)
		case ctf.Updating:
			err = job.update(ctx)
		case ctf.Deleting:
			if err = job.destroy(ctx); err == nil {
				return Outcome{Gone: true, Destroyed: true}, failure
			}
		default:
			return Outcome{Instance: work.Instance}, failure
		}
		var recorded *recordedError
		switch {
		case err == nil, errors.Is(err, ctf.ErrSuperseded):
		case errors.As(err, &recorded) && work.Instance.State != ctf.Deleting:
			failure = recorded.error
		case isAway(err) && tries <= retries:
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
