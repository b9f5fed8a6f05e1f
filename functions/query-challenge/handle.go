// Package querychallenge is the function that lists challenges.
package querychallenge

import (
	"context"
	"errors"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Function lists challenges.
type Function struct {
	challenges ctf.ChallengeReader
}

// New returns the function.
func New(challenges ctf.ChallengeReader) *Function { return &Function{challenges} }

// Handle sends every challenge of the caller, each with the instances that
// sources hold of it, as they are found. One that can't be read is an error in the
// end, once all others are sent.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error,
) error {
	var unreadable error
	for challenge, err := range f.challenges.Challenges(ctx, caller.Tenant) {
		if err == nil {
			err = f.send(ctx, challenge, send)
		}
		switch {
		case errors.Is(err, ctf.ErrUnreadable):
			unreadable = errors.Join(unreadable, err)
		case err != nil:
			return err
		}
	}
	return unreadable
}

func (f *Function) send(ctx context.Context, challenge ctf.Challenge, send func(*challengev1.Challenge) error) error {
	claimed, err := ctf.Collect(f.challenges.Claimed(ctx, challenge.Key))
	if err != nil {
		return err
	}
	return send(api.Challenge(challenge, claimed))
}
