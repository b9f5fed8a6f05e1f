// Package renewinstance is the function that gives an instance more time.
package renewinstance

import (
	"context"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Function renews instances.
type Function struct {
	instances ctf.InstanceWriter
	announce  ctf.Announcer
}

// New returns the function.
func New(instances ctf.InstanceWriter, announce ctf.Announcer) *Function {
	return &Function{instances, announce}
}

// Handle counts the timeout of the challenge anew from now, capped at its end
// date.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *instancev1.RenewInstanceRequest,
) (*instancev1.Instance, error) {
	challenge, source, err := api.InstanceIDs(caller, req)
	if err != nil {
		return nil, err
	}
	instance, err := f.instances.Renew(ctx, challenge, source)
	if err != nil {
		return nil, err
	}
	f.announce.Announce(challenge)
	return api.Instance(instance), nil
}
