// Package deletechallenge is the function that removes a challenge with all
// its instances.
package deletechallenge

import (
	"context"
	"errors"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// A Store is what the function writes.
type Store interface {
	ctf.ChallengeWriter
	ctf.Relay
}

// A Function removes challenges.
type Function struct {
	challenges Store
	lifecycle  *lifecycle.Lifecycle
	announce   ctf.Announcer
}

// New returns the function.
func New(challenges Store, l *lifecycle.Lifecycle, announce ctf.Announcer) *Function {
	return &Function{challenges, l, announce}
}

// Handle marks the challenge and its instances, destroys those, and forgets
// the challenge once nothing is left of them. Until then it stays visible, and
// a call that failed may be repeated. Of equal calls at once one succeeds and
// the others find nothing.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *challengev1.DeleteChallengeRequest,
) (*emptypb.Empty, error) {
	key, err := api.ChallengeKey(caller, req.GetId())
	if err != nil {
		return nil, err
	}
	deletion, instances, err := f.challenges.DeleteChallenge(context.WithoutCancel(ctx), key)
	if err != nil {
		return nil, err
	}
	f.announce.Announce(key)
	if err = f.lifecycle.SettleAll(ctx, key, instances); err == nil {
		err = f.remove(context.WithoutCancel(ctx), key, deletion.Incarnation)
	}
	if err != nil {
		if deletion.First { // or if that fails, the next call is told that nothing is there once nothing is
			_ = f.challenges.DisownChallenge(context.WithoutCancel(ctx), key, deletion, instances)
		}
		return nil, err
	}
	if !deletion.First {
		return nil, ctf.ChallengeNotFound(key.ID)
	}
	return &emptypb.Empty{}, nil
}

// remove forgets the challenge, or has somebody else do so soon.
func (f *Function) remove(ctx context.Context, key ctf.ChallengeKey, incarnation string) error {
	defer f.announce.Announce(key)
	_, err := f.challenges.RemoveChallenge(ctx, key, incarnation)
	if err != nil {
		err = errors.Join(err, f.challenges.HandOn(ctx, key))
	}
	return err
}
