package lifecycle

import (
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
	// last: no other try follows, so whatever goes wrong is a failure.
	last bool
}

func (j job) deploy(ctx context.Context) error {
	return j.up(ctx, j.Checkpoint, ctf.Deleting)
}

func (j job) update(ctx context.Context) error {
	switch j.Instance.Strategy {
	case ctf.BlueGreen:
		return j.replace(ctx)
	case ctf.Recreate:
		return j.recreate(ctx)
	default:
		return j.up(ctx, j.Checkpoint, ctf.Ready)
	}
}

// up deploys; an instance whose deployment fails is left in the state given.
func (j job) up(ctx context.Context, from ctf.Checkpoint, failed ctf.State) error {
	held, cancel := j.lease.Hold(ctx, j.Instance.State)
	defer cancel()
	result, err := j.engine.Up(held, j.Program(), from, j.lease.Journal(j.Instance.State))
	if err != nil {
		return j.fail(ctx, held, failed, err)
	}
	_, err = j.lease.Deployed(ctx, j.Work, result)
	return err
}

// recreate leaves nothing of the old deployment before it makes the new one. A
// failure leaves no instance, and nothing that one was made of.
func (j job) recreate(ctx context.Context) error {
	if err := j.down(ctx, ctf.Failed); err != nil {
		return err
	}
	if err := j.lease.Journal(ctf.Updating).Rebase(ctx, nil); err != nil {
		return fmt.Errorf("clear the checkpoint: %w", err)
	}
	err := j.up(ctx, ctf.Checkpoint{}, ctf.Failed)
	if recorded := (*recordedError)(nil); errors.As(err, &recorded) {
		return j.clear(ctx, err)
	}
	return err
}

// clear destroys what a failed recreate has left. Should that fail too, the
// failed record keeps the checkpoint for its deletion.
func (j job) clear(ctx context.Context, failure error) error {
	w, err := j.lease.Load(ctx)
	if err != nil {
		return failure
	}
	held, cancel := j.lease.Hold(ctx, ctf.Failed)
	defer cancel()
	journal := j.lease.Journal(ctf.Failed)
	if err := j.engine.Down(held, j.Instance.Key, w.Checkpoint, journal); err != nil {
		return failure
	}
	_ = journal.Rebase(ctx, nil) // its deletion would find nothing to destroy either way
	return failure
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
	outcome, err := j.settle(ctx, ctx, ctf.InstanceKey{Challenge: j.Instance.Key.Challenge, Identity: id})
	switch {
	case err == nil && outcome.Gone:
		return ctf.ErrSuperseded
	case err == nil:
		return nil
	case outcome.Gone, outcome.Instance.State == ctf.Deleting: // if it can't be destroyed now, expire does so later
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
	err := j.engine.Down(held, j.Instance.Key, j.Checkpoint, j.lease.Journal(j.Instance.State))
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
		return err // it is no fault of the scenario, and somebody holds the instance: reconcile tries again
	default:
		return j.abandon(ctx, state, err)
	}
}

func (j job) abandon(ctx context.Context, state ctf.State, err error) error {
	if recording := j.lease.Abandon(ctx, state, describe(err)); recording != nil {
		if errors.Is(recording, ctf.ErrSuperseded) {
			return recording
		}
		return errors.Join(err, recording)
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
