package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/backend"
	"github.com/pulumi/pulumi/pkg/v3/display"
	pulumi "github.com/pulumi/pulumi/pkg/v3/engine"
	"github.com/pulumi/pulumi/pkg/v3/resource/deploy"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/pkg/v3/resource/stack"
	"github.com/pulumi/pulumi/pkg/v3/secrets"
	"github.com/pulumi/pulumi/pkg/v3/secrets/b64"
	"github.com/pulumi/pulumi/pkg/v3/util/cancel"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/providers"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/urn"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

const (
	// organization is the first part of every stack's full name.
	organization = "organization"
	// parallel is how many resources are worked on at the same time.
	parallel = 16
)

// newSecrets marks secrets and encrypts nothing: see encode.
func newSecrets() secrets.Manager {
	return stack.NewBatchingCachingSecretsManager(b64.NewBase64SecretsManager())
}

// deploy runs the program on the state and returns the new state.
func (o *operation) deploy(state *apitype.DeploymentV3) (*apitype.DeploymentV3, error) {
	program := o.job.Program
	additional := program.Additional
	if additional == nil {
		additional = map[string]string{}
	}
	raw, err := json.Marshal(additional)
	if err != nil {
		return nil, fmt.Errorf("encode additional: %w", err)
	}
	project := &workspace.Project{
		Name: tokens.PackageName(program.Project), Runtime: workspace.NewProjectRuntimeInfo("go", nil),
	}
	settings := config.Map{
		config.MustMakeKey(program.Project, "identity"):   config.NewValue(string(o.job.Identity)),
		config.MustMakeKey(program.Project, "additional"): config.NewValue(string(raw)),
	}
	return o.execute(pulumi.Update, program.Dir, project, settings, state)
}

// destroy deletes every resource of the state.
func (o *operation) destroy(state *apitype.DeploymentV3) error {
	for i := range state.Resources {
		// An author's wish to keep something ends with the instance, and hooks
		// would need the program.
		state.Resources[i].RetainOnDelete = false
		state.Resources[i].ResourceHooks = nil
	}
	project := &workspace.Project{Name: projectOf(state)}
	_, err := o.execute(pulumi.Destroy, "", project, nil, state)
	return err
}

type action func(pulumi.UpdateInfo, *pulumi.Context, pulumi.UpdateOptions, bool) (*deploy.Plan, display.ResourceChanges, error)

// execute has Pulumi's engine work on the state.
func (o *operation) execute(
	act action, root string, project *workspace.Project, settings config.Map, state *apitype.DeploymentV3,
) (*apitype.DeploymentV3, error) {
	name, err := tokens.ParseStackName(string(o.job.Identity))
	if err != nil {
		return nil, fmt.Errorf("name the stack: %w", err)
	}
	target := &deploy.Target{
		Name: name, Organization: organization, Config: settings, Decrypter: config.NopDecrypter,
	}
	if len(state.Resources) > 0 {
		if target.Snapshot, err = snapshotOf(o.ctx, state); err != nil {
			return nil, err
		}
	}
	entries := &journal{operation: o, outside: map[int64]bool{}}
	secrets := newSecrets()
	log, err := backend.NewJournaler(o.root, entries, secrets, target.Snapshot)
	if err != nil {
		return nil, fmt.Errorf("begin the journal: %w", err)
	}
	// The snapshot must be the very one of the target: the manager finds
	// resources by their addresses.
	manager, err := pulumi.NewJournalSnapshotManager(log, target.Snapshot, secrets)
	if err != nil {
		return nil, fmt.Errorf("begin the journal: %w", err)
	}
	run := &pulumi.Context{SnapshotManager: manager, BackendClient: noStacks{}}
	options := pulumi.UpdateOptions{
		Parallel: parallel, SkipPluginPreInstall: true, IgnoreProtect: true, Autonamer: deleteFirst{},
		HostFactory: func(_ context.Context, log, _ diag.Sink, _ plugin.DebugContext) (plugin.Host, error) {
			return newHost(o, log)
		},
	}
	err = o.supervise(run, func() error {
		_, _, err := act(pulumi.UpdateInfo{Root: root, Project: project, Target: target}, run, options, o.job.Operation == preview)
		return err
	})
	if err != nil {
		return nil, o.words.failed(err)
	}
	return entries.final(state)
}

// supervise runs Pulumi's engine and listens to it. When the operation is to
// stop, the engine is canceled, and after the grace terminated.
func (o *operation) supervise(run *pulumi.Context, act func() error) error {
	cancellation, source := cancel.NewContext(context.WithoutCancel(o.ctx))
	defer source.Terminate() // closes the host
	events := make(chan pulumi.Event, 64)
	run.Cancel, run.Events = cancellation, events
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		for event := range events {
			if event.Type == pulumi.CancelEvent { // the last
				return
			}
			o.listen(event)
		}
	}()
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ended:
			return
		case <-o.ctx.Done():
			source.Cancel()
		}
		select {
		case <-ended:
		case <-time.After(grace):
			source.Terminate()
		}
	}()
	err := act()
	close(ended)
	<-watched
	<-listened
	return err
}

// deleteFirst makes every replacement delete the old before it creates the
// new: names are deterministic, both can't be there at once. As an autonamer it
// has the last word, also over the program.
type deleteFirst struct{}

// AutonamingForResource names nothing. A provider's replacement makes and
// destroys nothing by itself, so it need not delete what depends on it.
func (deleteFirst) AutonamingForResource(u urn.URN, _ []byte) (*plugin.AutonamingOptions, bool) {
	return nil, !providers.IsProviderType(u.Type())
}

// noStacks refuses references to other stacks: an instance stands alone.
type noStacks struct{}

func (noStacks) GetStackOutputs(context.Context, string, func(error) error) (property.Map, error) {
	return property.Map{}, errNoStacks
}

func (noStacks) GetStackResourceOutputs(context.Context, string) (property.Map, error) {
	return property.Map{}, errNoStacks
}
