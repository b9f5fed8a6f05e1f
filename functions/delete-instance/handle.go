// Package deleteinstance is the function that destroys what a source holds of
// a challenge.
package deleteinstance

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// A Function destroys instances.
type Function struct {
	instances ctf.InstanceWriter
	lifecycle *lifecycle.Lifecycle
	announce  ctf.Announcer
}

// New returns the function.
func New(instances ctf.InstanceWriter, l *lifecycle.Lifecycle, announce ctf.Announcer) *Function {
	return &Function{instances, l, announce}
}

// Handle marks the instance and returns when nothing of it is left. A call
// that failed may be repeated. Of equal calls at once one succeeds and the
// others find nothing.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *instancev1.DeleteInstanceRequest,
) (*emptypb.Empty, error) {
	challenge, source, err := api.InstanceIDs(caller, req)
	if err != nil {
		return nil, err
	}
	id, deletion, err := f.instances.DeleteInstance(context.WithoutCancel(ctx), challenge, source)
	if err != nil {
		return nil, err
	}
	f.announce.Announce(challenge)
	key := ctf.InstanceKey{Challenge: challenge, Identity: id}
	if _, err := f.lifecycle.Settle(ctx, key); err != nil {
		if deletion.First { // or if that fails, the next call is told that nothing is there once nothing is
			_ = f.instances.DisownInstance(context.WithoutCancel(ctx), key, deletion)
		}
		return nil, err
	}
	if !deletion.First {
		return nil, ctf.InstanceNotFound(challenge.ID, source)
	}
	return &emptypb.Empty{}, nil
}
