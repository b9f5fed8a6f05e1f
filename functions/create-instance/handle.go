// Package createinstance is the function that gives a source its own instance
// of a challenge.
package createinstance

import (
	"context"
	"errors"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// attempts bounds how often a repeated request starts over because the
// deployment that it was waiting for failed.
const attempts = 3

// A Function creates instances.
type Function struct {
	instances ctf.InstanceWriter
	lifecycle *lifecycle.Lifecycle
	announce  ctf.Announcer
}

// New returns the function.
func New(instances ctf.InstanceWriter, l *lifecycle.Lifecycle, announce ctf.Announcer) *Function {
	return &Function{instances, l, announce}
}

// Handle claims an instance from the pool, or else deploys one and returns
// when it is ready. A deployment that fails leaves nothing, and one whose turn
// does not come is refused before it is recorded. A request with the
// idempotency key of an earlier one gets that one's instance, and waits for it
// if need be; of equal requests without a key one succeeds.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *instancev1.CreateInstanceRequest,
) (*instancev1.Instance, error) {
	wanted, err := api.NewReservation(ctx, caller, req)
	if err != nil {
		return nil, err
	}
	for range attempts {
		reserved, turn, err := f.reserve(ctx, wanted)
		if err != nil {
			return nil, err
		}
		f.announce.Announce(wanted.Challenge)
		if reserved.Replaced != "" {
			f.lifecycle.Start(ctx, ctf.InstanceKey{Challenge: wanted.Challenge, Identity: reserved.Replaced})
		}
		if reserved.Claimed || reserved.Attached && reserved.Instance.State != ctf.Pending {
			return api.Instance(reserved.Instance), nil
		}
		outcome, err := f.lifecycle.Deploy(ctx, turn, reserved.Instance.Key)
		switch {
		case !outcome.Gone && outcome.Instance.State == ctf.Ready:
			// Even with an error: it is deployed, and could not follow an update that
			// came between.
			return api.Instance(outcome.Instance), nil
		case err != nil:
			return nil, explain(err)
		case !reserved.Attached:
			return f.follow(ctx, reserved, outcome)
		}
	}
	return nil, ctf.DeploymentFailed("the instance that this request was waiting for could not be deployed", nil)
}

// reserve binds an instance to the source. What needs a deployment comes with a
// turn for it, and what does not never waits for one.
func (f *Function) reserve(ctx context.Context, wanted ctf.ReserveRequest) (ctf.Reservation, *lifecycle.Turn, error) {
	turn, ok := f.lifecycle.TryTurn(wanted.Challenge)
	if !ok {
		wanted.ReadyOnly = true
		reserved, err := f.instances.Reserve(context.WithoutCancel(ctx), wanted)
		if !errors.Is(err, ctf.ErrNoneReady) {
			return reserved, nil, err
		}
		wanted.ReadyOnly = false
		if turn, err = f.lifecycle.WaitTurn(ctx, wanted.Challenge); err != nil {
			return ctf.Reservation{}, nil, err
		}
	}
	reserved, err := f.instances.Reserve(context.WithoutCancel(ctx), wanted)
	if err != nil || reserved.Claimed || reserved.Attached {
		turn.End()
		turn = nil
	}
	return reserved, turn, err
}

// follow answers where the instance is by now that was deployed and is gone: a
// blue-green update replaces it by another identity, which is the source's own
// as well. Of one that is gone after the work was interrupted it may not be known whether
// it was deleted, or a try to deploy it has failed meanwhile, here or elsewhere.
func (f *Function) follow(ctx context.Context, reserved ctf.Reservation, outcome lifecycle.Outcome) (*instancev1.Instance, error) {
	moved, err := f.instances.Follow(ctx, reserved)
	switch {
	case ctf.ReasonOf(err) != ctf.ReasonInstanceNotFound:
	case outcome.Interrupted:
		return nil, &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
			Message: "The work on the instance was interrupted.", Detail: "nothing is left of it: try again"}
	default:
		return nil, ctf.InstanceDeleted(reserved.Instance.Key.Challenge.ID, reserved.Instance.Source)
	}
	if err != nil {
		return nil, err
	}
	return api.Instance(moved), nil
}

// explain puts an error about the scenario in terms of this request, which has
// no field for it: the scenario was fine when the challenge was registered.
func explain(err error) error {
	e, ok := errors.AsType[*ctf.Error](err)
	if !ok || e.Reason != ctf.ReasonScenarioMismatch {
		return err
	}
	without := *e
	without.Violations = nil
	return &without
}
