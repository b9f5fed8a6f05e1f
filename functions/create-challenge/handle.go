// Package createchallenge is the function that registers a challenge.
package createchallenge

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

// A Function registers challenges.
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

// Handle stores a challenge once its scenario has been fetched and run dry. Of
// equal calls at once one succeeds. The pool is filled afterwards, by the
// event that the store writes.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *challengev1.CreateChallengeRequest,
) (*challengev1.Challenge, error) {
	challenge, err := api.NewChallenge(caller, req)
	if err != nil {
		return nil, err
	}
	// Asked before the slow part; the store asks again when it stores.
	switch _, err := f.challenges.Challenge(ctx, challenge.Key); ctf.ReasonOf(err) {
	case ctf.ReasonChallengeNotFound:
	case "":
		return nil, ctf.ChallengeExists(challenge.Key.ID)
	default:
		return nil, err
	}
	challenge.Scenario, err = f.registry.Resolve(ctx, challenge.Scenario.Reference)
	if err != nil {
		return nil, err
	}
	if err := f.lifecycle.Validate(ctx, challenge.Key, challenge.Scenario, challenge.Additional); err != nil {
		return nil, err
	}
	if err := f.challenges.CreateChallenge(ctx, challenge); err != nil {
		return nil, err
	}
	f.announce.Announce(challenge.Key)
	return api.Challenge(challenge, nil), nil
}
