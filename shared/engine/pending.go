package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/pkg/v3/resource/stack"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/providers"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// restore returns the state that the operation starts from: the journal is
// replayed, what was interrupted is looked up through the provider, and the
// resources bear the program's project name. When that changed anything, it is
// stored as the new base, because the journal that is to be written counts the
// resources of its base.
func (o *operation) restore() (*apitype.DeploymentV3, error) {
	state, err := o.job.Checkpoint.replay(o.ctx)
	if err != nil {
		return nil, err
	}
	changed := len(o.job.Checkpoint.Journal) > 0
	if len(state.PendingOperations) > 0 {
		changed = true
		if err := o.resolve(state); err != nil {
			return nil, err
		}
	}
	if o.job.Program != nil {
		renamed, err := rename(o.ctx, state, o.job.Program.Project)
		if err != nil {
			return nil, err
		}
		if renamed != nil {
			state, changed = renamed, true
		}
	}
	if !changed {
		return state, nil
	}
	base, err := encode(o.ctx, state)
	if err != nil {
		return nil, err
	}
	return state, o.session.store(o.root, report{Base: base})
}

// resolve settles each operation that was begun and not finished: what is
// there now is asked of the provider.
func (o *operation) resolve(state *apitype.DeploymentV3) error {
	pending := state.PendingOperations
	state.PendingOperations = nil
	slices.SortFunc(pending, func(a, b apitype.OperationV2) int { return cmp.Compare(a.Resource.URN, b.Resource.URN) })
	for _, op := range pending {
		if !op.Resource.Custom || providers.IsProviderType(op.Resource.URN.Type()) || op.Resource.External {
			continue // nothing outside
		}
		if op.Type == apitype.OperationTypeReading {
			continue
		}
		if err := o.resolveOne(state, op); err != nil {
			return o.words.fail(subject(op.Resource.URN), fmt.Errorf("find out what an interrupted operation left: %w", err))
		}
	}
	return nil
}

func (o *operation) resolveOne(state *apitype.DeploymentV3, op apitype.OperationV2) error {
	creating := op.Type == apitype.OperationTypeCreating
	known := op.Resource
	index := -1
	if !creating {
		index = slices.IndexFunc(state.Resources, func(r apitype.ResourceV3) bool {
			return r.URN == op.Resource.URN && r.ID == op.Resource.ID
		})
		if index < 0 {
			return nil // it was finished after all
		}
		known = state.Resources[index]
	}
	found, err := o.read(state, known, creating)
	switch {
	case err != nil:
		return err
	case found == nil && creating: // it was never made
	case found == nil:
		forget(state, index)
	case creating:
		adopt(state, *found)
	default:
		state.Resources[index] = *found
	}
	return nil
}

// adopt takes in a resource whose creation nobody lived to see. One that was
// deleted to make way for it keeps the place: those after it may depend on it.
func adopt(state *apitype.DeploymentV3, found apitype.ResourceV3) {
	index := slices.IndexFunc(state.Resources, func(r apitype.ResourceV3) bool {
		return r.URN == found.URN && (r.PendingReplacement || r.ID == found.ID)
	})
	if index >= 0 {
		state.Resources[index] = found
		return
	}
	state.Resources = append(state.Resources, found)
}

// read asks the provider for a resource and returns it as it is now, nil if it
// is not there. Without a known id the provider finds it by its URN and inputs.
func (o *operation) read(state *apitype.DeploymentV3, known apitype.ResourceV3, byInputs bool) (*apitype.ResourceV3, error) {
	secrets := newSecrets()
	parsed, err := stack.DeserializeResource(known, secrets.Decrypter())
	if err != nil {
		return nil, err
	}
	request := plugin.ReadRequest{
		URN: parsed.URN, Name: parsed.URN.Name(), Type: parsed.URN.Type(),
		ID: parsed.ID, Inputs: parsed.Inputs, State: parsed.Outputs,
	}
	if byInputs {
		request.ID, request.State = "", nil
	}
	p, err := o.configured(state, known)
	if err != nil {
		return nil, err
	}
	defer closeProvider(p)
	response, err := p.Read(o.ctx, request)
	if err != nil {
		return nil, err
	}
	if response.ID == "" || response.Outputs == nil {
		return nil, nil
	}
	parsed.ID, parsed.Outputs = response.ID, response.Outputs
	if response.Inputs != nil {
		parsed.Inputs = response.Inputs
	}
	now, _, err := stack.SerializeResource(o.ctx, parsed, secrets.Encrypter(), false)
	if err != nil {
		return nil, err
	}
	return &now, nil
}

// configured returns the provider of a resource with the settings that the
// program gave it.
func (o *operation) configured(state *apitype.DeploymentV3, r apitype.ResourceV3) (plugin.Provider, error) {
	p, err := o.provider(string(r.URN.Type().Package()), "")
	if err != nil {
		return nil, err
	}
	var settings resource.PropertyMap
	if ref, err := providers.ParseReference(r.Provider); err == nil {
		for _, candidate := range state.Resources {
			if candidate.URN == ref.URN() && candidate.ID == ref.ID() {
				if settings, err = stack.DeserializeProperties(candidate.Inputs, newSecrets().Decrypter()); err != nil {
					return nil, err
				}
			}
		}
	}
	if settings == nil {
		settings = resource.PropertyMap{}
	}
	if _, err := p.Configure(o.ctx, plugin.ConfigureRequest{Inputs: settings}); err != nil {
		closeProvider(p)
		return nil, fmt.Errorf("configure the provider: %w", err)
	}
	return p, nil
}
