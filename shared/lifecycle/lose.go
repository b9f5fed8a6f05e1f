package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// glance is how long a lease is waited for that nobody held a moment ago.
const glance = time.Second

// lost is the failure of an instance that is not what its record says.
const lost = "what it was made of is gone"

// A Loss is a ready instance of which platforms have nothing, or not all.
type Loss struct {
	Instance ctf.InstanceKey
	// Revision is that of the record before the platforms were asked.
	Revision int64
	// Missing tells whether the platforms would have a resource if it were there.
	Missing func(ctf.Resource) bool
}

// Lose records a loss, if it is one: the record has not changed since, and a
// resource that was made for the instance is missing. The state is how the instance
// is left: Updating, to be made anew under the same identity, Deleting, or Ready,
// which only tells. Lose does not settle it.
func (l *Lifecycle) Lose(ctx context.Context, loss Loss, state ctf.State) (bool, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, glance, ErrHeld)
	defer cancel()
	lease, err := l.store.Lease(waiting, loss.Instance)
	if isGone(err) || errors.Is(err, ErrHeld) {
		return false, nil // somebody is at it
	}
	if err != nil {
		return false, fmt.Errorf("lease instance %s: %w", loss.Instance.Identity, err)
	}
	defer lease.Release()
	work, err := lease.Load(ctx)
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("load instance %s: %w", loss.Instance.Identity, err)
	}
	if work.Instance.State != ctf.Ready || work.Instance.Revision != loss.Revision {
		return false, nil
	}
	made, err := l.engine.Resources(ctx, work.Checkpoint)
	if err != nil {
		return false, fmt.Errorf("look what instance %s was made of: %w", loss.Instance.Identity, err)
	}
	if !slices.ContainsFunc(made, loss.Missing) {
		return false, nil
	}
	if state == ctf.Ready && work.Instance.Failure == lost {
		return true, nil // it is told already
	}
	err = lease.Lose(ctx, work, state, lost)
	if errors.Is(err, ctf.ErrSuperseded) || errors.Is(err, ctf.ErrLeaseLost) {
		return false, nil
	}
	return err == nil, err
}
