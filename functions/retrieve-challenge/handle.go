// Package retrievechallenge is the function that shows one challenge.
package retrievechallenge

import (
	"context"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Function shows challenges.
type Function struct {
	challenges ctf.ChallengeReader
}

// New returns the function.
func New(challenges ctf.ChallengeReader) *Function { return &Function{challenges} }

// Handle returns a challenge with the instances that sources hold of it.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *challengev1.RetrieveChallengeRequest,
) (*challengev1.Challenge, error) {
	key, err := api.ChallengeKey(caller, req.GetId())
	if err != nil {
		return nil, err
	}
	challenge, err := f.challenges.Challenge(ctx, key)
	if err != nil {
		return nil, err
	}
	claimed, err := ctf.Collect(f.challenges.Claimed(ctx, key))
	if err != nil {
		return nil, err
	}
	return api.Challenge(challenge, claimed), nil
}
