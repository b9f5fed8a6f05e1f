package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

var errKilled = errors.New("the worker was killed")

// A conversation is what engine and worker say to each other about one job.
type conversation struct {
	worker   *worker
	journal  ctf.Journal
	deadline time.Time
	refusal  error // why the journal refused an entry
}

// follow keeps the journal and the deadline until the worker reports the end.
// It returns nil when the worker is gone, or has to go.
func (c *conversation) follow(ctx context.Context) (*outcome, error) {
	poll := time.NewTicker(deadlinePoll)
	defer poll.Stop()
	canceled := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case r, ok := <-c.worker.reports:
			if !ok {
				return nil, nil
			}
			if r.Done != nil {
				return r.Done, nil
			}
			if err := c.note(ctx, r); err != nil {
				return nil, err
			}
		case <-canceled:
			if errors.Is(context.Cause(ctx), ctf.ErrLeaseLost) {
				return nil, errKilled // somebody else may be at work: not a moment longer
			}
			canceled = nil
			late = time.After(grace + patience)
			_ = c.worker.send(order{Cancel: true}) // if it fails the reports end too
		case <-poll.C:
			if err := c.forwardDeadline(); err != nil {
				return nil, err
			}
		case <-late:
			return nil, errKilled
		}
	}
}

// note writes into the journal what the worker is about to do, and answers.
func (c *conversation) note(ctx context.Context, r report) error {
	if r.Group > 0 {
		c.worker.group = r.Group
		return nil
	}
	if c.journal == nil {
		return errors.New("a preview has no journal")
	}
	// What was begun is taken down even if nobody waits for it any more, but not
	// after the deadline.
	ctx, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), c.journal.Deadline(), ctf.ErrLeaseLost)
	defer cancel()
	var err error
	if len(r.Base) > 0 {
		err = c.journal.Rebase(ctx, r.Base)
	} else {
		err = c.journal.Append(ctx, r.Entry)
	}
	if err != nil && c.refusal == nil {
		c.refusal = fmt.Errorf("write the journal: %w", err)
	}
	if errors.Is(err, ctf.ErrLeaseLost) {
		return errKilled
	}
	_ = c.worker.send(order{Ack: &ack{Refused: err != nil}}) // if it fails the reports end too
	return nil
}

func (c *conversation) forwardDeadline() error {
	if c.journal == nil {
		return nil
	}
	if time.Since(c.deadline) > grace+patience {
		return errKilled // it should have ended itself
	}
	if moved := c.journal.Deadline(); !moved.Equal(c.deadline) {
		c.deadline = moved
		_ = c.worker.send(order{Deadline: onMonotonic(moved)}) // if it fails the reports end too
	}
	return nil
}

// ending is the error of an operation whose worker is gone.
func (c *conversation) ending(ctx context.Context, err error) error {
	switch {
	case c.refusal != nil:
		return c.refusal
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.journal != nil && time.Now().After(c.deadline):
		return fmt.Errorf("the operation outlived its deadline: %w", ctf.ErrLeaseLost)
	case err != nil:
		return err
	}
	return c.died()
}

// verdict is the error of an operation that failed in an orderly way, nil if
// the failure is the scenario's.
func (c *conversation) verdict(ctx context.Context, done outcome) error {
	switch {
	case c.refusal != nil:
		return c.refusal
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case done.Overdue:
		return fmt.Errorf("the operation outlived its deadline: %w", ctf.ErrLeaseLost)
	case done.Fault != "":
		return errors.New(done.Fault)
	}
	return nil
}

// died says that the worker ended by itself, or was killed by somebody else.
func (c *conversation) died() error {
	c.worker.stop()
	return &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
		Message: "The engine's worker died.", Detail: "nothing was lost, try again in a moment",
		Err: fmt.Errorf("%w: %s", c.worker.exit, c.worker.stderr)}
}
