// Package retrieveinstance is the function that shows what a source holds of a
// challenge.
package retrieveinstance

import (
	"context"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Function shows instances.
type Function struct {
	instances ctf.InstanceReader
}

// New returns the function.
func New(instances ctf.InstanceReader) *Function { return &Function{instances} }

// Handle returns the instance that the source holds now.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *instancev1.RetrieveInstanceRequest,
) (*instancev1.Instance, error) {
	challenge, source, err := api.InstanceIDs(caller, req)
	if err != nil {
		return nil, err
	}
	instance, err := f.instances.Instance(ctx, challenge, source)
	if err != nil {
		return nil, err
	}
	return api.Instance(instance), nil
}
