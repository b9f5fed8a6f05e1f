// Package updatechallenge is the function that changes a challenge, and its
// running instances with it.
package updatechallenge

import (
	"context"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// A Store is what the function reads and writes.
type Store interface {
	ctf.ChallengeReader
	ctf.ChallengeWriter
}

// A Function changes challenges.
type Function struct {
	challenges Store
	registry   ctf.Resolver
	lifecycle  *lifecycle.Lifecycle
	announce   ctf.Announcer
}

// New returns the function.
func New(challenges Store, registry ctf.Resolver, l *lifecycle.Lifecycle, announce ctf.Announcer) *Function {
	return &Function{challenges, registry, l, announce}
}

// Handle records the change, brings the instances that it affects up to it,
// and returns the challenge as it is then. A change that affects no instance
// deploys nothing. When an instance can't follow, the error says why; the
// challenge keeps its new definition and the instance its old one, and the
// next update tries again.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *challengev1.UpdateChallengeRequest,
) (*challengev1.Challenge, error) {
	key, change, err := api.NewChallengeChange(caller, req)
	if err != nil {
		return nil, err
	}
	current, err := f.challenges.Challenge(ctx, key)
	if err != nil {
		return nil, err
	}
	if change.SetScenario {
		if change.Scenario, err = f.validate(ctx, current, change); err != nil {
			return nil, err
		}
	}
	update, err := f.challenges.UpdateChallenge(context.WithoutCancel(ctx), key, change)
	if err != nil {
		return nil, err
	}
	f.announce.Announce(key)
	// Nobody holds these, so nobody waits for them.
	for _, id := range update.Deleting {
		f.lifecycle.Start(ctx, ctf.InstanceKey{Challenge: key, Identity: id})
	}
	if err := f.lifecycle.SettleAll(ctx, key, update.Updating); err != nil {
		return nil, err
	}
	claimed, err := ctf.Collect(f.challenges.Claimed(ctx, key))
	if err != nil {
		return nil, err
	}
	return api.Challenge(update.Challenge, claimed), nil
}

// validate finds what the new reference means, and runs it dry if that is
// something new.
func (f *Function) validate(ctx context.Context, current ctf.Challenge, change ctf.ChallengeChange) (ctf.Scenario, error) {
	scenario, err := f.registry.Resolve(ctx, change.Scenario.Reference)
	if err != nil || scenario.Digest == current.Scenario.Digest {
		return scenario, err
	}
	additional := current.Additional
	if change.SetAdditional {
		additional = change.Additional
	}
	return scenario, f.lifecycle.Validate(ctx, current.Key, scenario, additional)
}
