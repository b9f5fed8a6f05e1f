// Package queryinstance is the function that lists what a source holds.
package queryinstance

import (
	"context"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Function lists instances.
type Function struct {
	instances ctf.InstanceReader
}

// New returns the function.
func New(instances ctf.InstanceReader) *Function { return &Function{instances} }

// Handle sends the instances that a source holds, over all challenges, as they
// are found. A source that holds none gets none, and so does an empty one.
func (f *Function) Handle(
	ctx context.Context, caller ctf.Caller, req *instancev1.QueryInstanceRequest, send func(*instancev1.Instance) error,
) error {
	source := ctf.SourceID(req.GetSourceId())
	if source == "" {
		return nil // what the contract says, unlike for every other verb
	}
	if err := source.Validate(); err != nil {
		return err
	}
	for instance, err := range f.instances.BySource(ctx, caller.Tenant, source) {
		if err != nil {
			return err
		}
		if err := send(api.Instance(instance)); err != nil {
			return err
		}
	}
	return nil
}
