package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pulumi/pulumi/pkg/v3/backend"
	"github.com/pulumi/pulumi/pkg/v3/resource/deploy"
	"github.com/pulumi/pulumi/pkg/v3/resource/edit"
	"github.com/pulumi/pulumi/pkg/v3/resource/stack"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/providers"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/urn"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A checkpoint is a [ctf.Checkpoint] as it is sent: base and journal are JSON
// already.
type checkpoint struct {
	Base    json.RawMessage   `json:"base,omitempty"`
	Journal []json.RawMessage `json:"journal,omitempty"`
}

func checkpointOf(c ctf.Checkpoint) checkpoint {
	out := checkpoint{Base: c.Base}
	for _, entry := range c.Journal {
		out.Journal = append(out.Journal, entry)
	}
	return out
}

// replay applies the journal to the base. What was begun and not finished is
// left as pending operations. Pulumi panics on what it never wrote, which makes
// an error here.
func (c checkpoint) replay(ctx context.Context) (state *apitype.DeploymentV3, err error) {
	defer func() {
		if r := recover(); r != nil {
			state, err = nil, fmt.Errorf("read the checkpoint: %v", r)
		}
	}()
	base := &apitype.DeploymentV3{}
	if len(c.Base) > 0 {
		var untyped apitype.UntypedDeployment
		if err := json.Unmarshal(c.Base, &untyped); err != nil {
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
		if base, err = stack.UnmarshalUntypedDeployment(ctx, &untyped); err != nil {
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
	}
	if len(c.Journal) == 0 {
		return base, nil
	}
	replayer := backend.NewJournalReplayer(base)
	for i, raw := range c.Journal {
		var entry apitype.JournalEntry
		if err := json.Unmarshal(raw, &entry); err != nil {
			return nil, fmt.Errorf("read entry %d of the journal: %w", i, err)
		}
		if err := replayer.Add(entry); err != nil {
			return nil, fmt.Errorf("replay entry %d of the journal: %w", i, err)
		}
	}
	typed, err := replayer.GenerateDeployment()
	if err != nil {
		return nil, fmt.Errorf("replay the journal: %w", err)
	}
	return typed.Deployment, nil
}

// encode is the form in which a deployment is stored. Its secrets are merely
// marked, in Base64: the store encrypts the checkpoint as a whole.
func encode(ctx context.Context, state *apitype.DeploymentV3) (json.RawMessage, error) {
	snapshot, err := snapshotOf(ctx, state)
	if err != nil {
		return nil, err
	}
	// Serializing anew finds out which version and features the state needs.
	untyped, err := stack.SerializeUntypedDeployment(ctx, snapshot, nil)
	if err != nil {
		return nil, fmt.Errorf("write the checkpoint: %w", err)
	}
	raw, err := json.Marshal(untyped)
	if err != nil {
		return nil, fmt.Errorf("write the checkpoint: %w", err)
	}
	return raw, nil
}

func snapshotOf(ctx context.Context, state *apitype.DeploymentV3) (*deploy.Snapshot, error) {
	snapshot, err := stack.DeserializeDeploymentV3(ctx, *state, stack.Base64SecretsProvider{})
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	if snapshot.SecretsManager == nil {
		snapshot.SecretsManager = newSecrets()
	}
	return snapshot, nil
}

// rename gives every resource the URN it has in the project, and returns nil
// if it has that already. Secrets are written out first, because names inside
// them are not seen otherwise.
func rename(ctx context.Context, state *apitype.DeploymentV3, project string) (*apitype.DeploymentV3, error) {
	if len(state.Resources) == 0 || projectOf(state) == tokens.PackageName(project) {
		return nil, nil
	}
	snapshot, err := snapshotOf(ctx, state)
	if err != nil {
		return nil, err
	}
	const showSecrets = true
	renamed, err := stack.SerializeDeployment(ctx, snapshot, showSecrets)
	if err != nil {
		return nil, fmt.Errorf("rename the project: %w", err)
	}
	name, err := tokens.ParseStackName(state.Resources[0].URN.Stack().String())
	if err != nil {
		return nil, fmt.Errorf("rename the project: %w", err)
	}
	options := edit.RenameStackOptions{OldName: name, OldProject: projectOf(state)}
	if err := edit.RenameStack(renamed, name, tokens.PackageName(project), options); err != nil {
		return nil, fmt.Errorf("rename the project: %w", err)
	}
	return renamed, nil
}

// projectOf is the project whose resources these are.
func projectOf(state *apitype.DeploymentV3) tokens.PackageName {
	return state.Resources[0].URN.Project()
}

// made are the resources that our providers made.
func made(state *apitype.DeploymentV3) []ctf.Resource {
	var all []ctf.Resource
	for _, r := range state.Resources {
		if r.Custom && !r.External && !providers.IsProviderType(r.Type) {
			all = append(all, ctf.Resource{Type: string(r.Type), ID: string(r.ID)})
		}
	}
	return all
}

// forget removes one resource and every mention of it.
func forget(state *apitype.DeploymentV3, index int) {
	gone := state.Resources[index]
	state.Resources = append(state.Resources[:index:index], state.Resources[index+1:]...)
	without := func(urns []urn.URN) []urn.URN {
		var kept []urn.URN
		for _, u := range urns {
			if u != gone.URN {
				kept = append(kept, u)
			}
		}
		return kept
	}
	for i := range state.Resources {
		r := &state.Resources[i]
		if r.URN == gone.URN {
			return // the namesake takes the place
		}
	}
	for i := range state.Resources {
		r := &state.Resources[i]
		r.Dependencies = without(r.Dependencies)
		r.ReplaceWith = without(r.ReplaceWith)
		for key, urns := range r.PropertyDependencies {
			r.PropertyDependencies[key] = without(urns)
		}
		if r.DeletedWith == gone.URN {
			r.DeletedWith = ""
		}
		if r.Parent == gone.URN {
			r.Parent = gone.Parent
		}
	}
}
