package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A job is one step of an instance's life, done under its lease. Its methods
// return nil when the step is done, [ctf.ErrSuperseded] when the record asks
// for something else by now, a [*recordedError] when the step failed and the
// record says so, and any other error when nothing could be recorded.
type job struct {
	*Lifecycle
	lease ctf.Lease
	ctf.Work
	// turn is one that the work came with, or nil; it may have ended.
	turn *Turn
	// last: no other try follows, so whatever goes wrong is a failure.
	last bool
}

func (j job) deploy(ctx context.Context) error {
	if j.Attempt > attempts {
		return j.abandon(ctx, ctf.Deleting, errWornOut())
	}
	return j.up(ctx, j.Checkpoint, ctf.Deleting)
}

func (j job) update(ctx context.Context) error {
	switch {
	case j.Attempt <= attempts:
	case j.Instance.Strategy == ctf.Recreate:
		return j.abandon(ctx, ctf.Failed, errWornOut())
	default:
		return j.abandon(ctx, ctf.Ready, errWornOut())
	}
	switch j.Instance.Strategy {
	case ctf.BlueGreen:
		return j.replace(ctx)
	case ctf.Recreate:
		return j.recreate(ctx)
	default:
		return j.up(ctx, j.Checkpoint, ctf.Ready)
	}
}

// errWornOut is why no other attempt is made.
func errWornOut() error {
	return ctf.DeploymentFailed(fmt.Sprintf("it was begun %d times and never came to an end, "+
		"because it took too long each time or ended the process that was at it", attempts), nil)
}

// up deploys; an instance whose deployment fails is left in the state given.
func (j job) up(ctx context.Context, from ctf.Checkpoint, failed ctf.State) error {
	held, cancel := j.lease.Hold(ctx, j.Instance.State)
	defer cancel()
	var result ctf.Result
	err := j.inTurn(held, deployment, func() (err error) {
		result, err = j.engine.Up(held, j.Program(), from, j.lease.Journal(j.Instance.State))
		return err
	})
	if err != nil {
		return j.fail(ctx, held, failed, err)
	}
	_, err = j.lease.Deployed(ctx, j.Work, result)
	return err
}

// inTurn waits for a turn and works in it.
func (j job) inTurn(ctx context.Context, k kind, work func() error) error {
	if k == deployment && j.turn.lasts() {
		return work()
	}
	leave, err := j.turns.take(ctx, j.Instance.Key.Challenge, k)
	if err != nil {
		return err
	}
	defer leave()
	return work()
}

// recreate leaves nothing of the old deployment before it makes the new one. A
// failure leaves no instance; what one was made of is cleared next.
func (j job) recreate(ctx context.Context) error {
	if err := j.lease.Strip(ctx); err != nil {
		return fmt.Errorf("record that it is destroyed: %w", err)
	}
	j.Bare = true
	if err := j.down(ctx, ctf.Failed); err != nil {
		return err
	}
	if err := j.lease.Journal(ctf.Updating).Rebase(ctx, nil); err != nil {
		return fmt.Errorf("clear the checkpoint: %w", err)
	}
	j.Checkpoint = ctf.Checkpoint{}
	return j.up(ctx, j.Checkpoint, ctf.Failed)
}

// clear destroys what a failed instance has left. Should that fail too, the record
// keeps the checkpoint, and reconcile tries again.
func (j job) clear(ctx context.Context) error {
	held, cancel := j.lease.Hold(ctx, ctf.Failed)
	defer cancel()
	journal := j.lease.Journal(ctf.Failed)
	err := j.inTurn(held, destruction, func() error { return j.engine.Down(held, j.Instance.Key, j.Checkpoint, journal) })
	if err != nil {
		return cmp.Or(context.Cause(held), err)
	}
	return journal.Rebase(ctx, nil)
}

// replace deploys another identity and switches the source over to it, which
// marks this one deleting in the same step.
func (j job) replace(ctx context.Context) error {
	id, err := j.lease.Replacement(ctx)
	if err != nil {
		return err
	}
	// Not under Hold: the switch itself supersedes this record. If its source
	// deletes it meanwhile, the switch is refused and the replacement destroyed.
	outcome, err := j.settle(ctx, ctx, nil, ctf.InstanceKey{Challenge: j.Instance.Key.Challenge, Identity: id})
	switch {
	case err == nil && outcome.Gone:
		return ctf.ErrSuperseded
	case err == nil:
		return nil
	case outcome.Gone, outcome.Instance.State == ctf.Deleting: // if it can't be destroyed now, expire does so later
		if j.begun() && !isMistake(err) {
			return j.excuse(ctx, err)
		}
		return j.abandon(ctx, ctf.Ready, err)
	default:
		return err
	}
}

// destroy removes everything of the instance, its record last.
func (j job) destroy(ctx context.Context) error {
	if err := j.down(ctx, ctf.Deleting); err != nil {
		return err
	}
	if err := j.lease.Forget(ctx); err != nil && !isGone(err) {
		return fmt.Errorf("forget instance %s: %w", j.Instance.Key.Identity, err)
	}
	return nil
}

func (j job) down(ctx context.Context, failed ctf.State) error {
	held, cancel := j.lease.Hold(ctx, j.Instance.State)
	defer cancel()
	err := j.inTurn(held, destruction, func() error {
		return j.engine.Down(held, j.Instance.Key, j.Checkpoint, j.lease.Journal(j.Instance.State))
	})
	if err != nil {
		return j.fail(ctx, held, failed, err)
	}
	return nil
}

// fail sorts out why a step failed. Only what will fail again is recorded: the
// rest is left as it is, for another try or another holder.
func (j job) fail(ctx, held context.Context, state ctf.State, err error) error {
	if cause := context.Cause(held); errors.Is(cause, ctf.ErrSuperseded) || errors.Is(cause, ctf.ErrLeaseLost) {
		return cause
	}
	switch {
	case errors.Is(err, ctf.ErrSuperseded), errors.Is(err, ctf.ErrLeaseLost), ctx.Err() != nil:
		return err
	case isAway(err) && (!j.last || j.Instance.State == ctf.Updating):
		return err // the scenario may have ended its process: it has only so many attempts
	case j.begun() && !isMistake(err):
		return j.excuse(ctx, err) // somebody holds the instance: reconcile tries again
	default:
		return j.abandon(ctx, state, err)
	}
}

// excuse leaves an update as it is that failed through no fault of its scenario. The
// attempt does not count, or the update would be given up for what it did not do.
func (j job) excuse(ctx context.Context, err error) error {
	if uncounted := j.lease.Excuse(ctx, j.Work); uncounted != nil {
		return errors.Join(err, uncounted)
	}
	return err
}

// begun tells whether an update has changed what is deployed, so that it can't stay
// what it was.
func (j job) begun() bool {
	return j.Instance.State == ctf.Updating && (len(j.Checkpoint.Journal) > 0 || j.Bare)
}

// isMistake tells whether a scenario itself is to blame.
func isMistake(err error) bool {
	reason := ctf.ReasonOf(err)
	return reason == ctf.ReasonDeploymentFailed || reason == ctf.ReasonScenarioMismatch || reason == ctf.ReasonScenarioPreprocess
}

func (j job) abandon(ctx context.Context, state ctf.State, err error) error {
	if recording := j.lease.Abandon(ctx, state, describe(err)); recording != nil {
		if errors.Is(recording, ctf.ErrSuperseded) {
			return recording
		}
		return errors.Join(recording, err) // the caller is told that it is not done, for it is begun again
	}
	return &recordedError{err}
}

// describe says why work failed in words for an author, without the causes
// that are for the log alone.
func describe(err error) string {
	if e, ok := errors.AsType[*ctf.Error](err); ok {
		if e.Detail != "" {
			return e.Detail
		}
		return e.Message
	}
	return "an internal error occurred"
}
