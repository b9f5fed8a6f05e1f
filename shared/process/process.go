// Package process is the Pulumi provider for programs that run on this
// machine: instances on a laptop, where there is no cluster. A program belongs
// to no process of Mayfly; what is known of it is a directory on the disk and
// what the kernel says in /proc. The package knows Pulumi's provider interface
// and nothing of the engine, of records or of challenges.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// Package is the name of the Pulumi package that the provider serves.
	Package = "process"
	// Type is the token of its one resource.
	Type = tokens.Type("process:index:Process")
)

// Options say where programs live and how many there may be.
type Options struct {
	// Directory holds a directory for each program. It is the only memory of
	// what runs, so it must outlive Mayfly.
	Directory string
	// MaxProcesses is how many programs may be there at once, over all
	// identities; 0 is 256.
	MaxProcesses int
	// MaxOutput is how many bytes of each program's output are kept; what comes
	// after is dropped. 0 is 1 MiB.
	MaxOutput int64
}

// A Provider starts and stops programs. It is safe for concurrent use, and
// several of them, in several processes, may share a directory.
type Provider struct {
	plugin.UnimplementedProvider

	store     *store
	maxOutput int64
	// canceled ends all waiting, once somebody signals cancellation.
	canceled context.Context
	cancel   context.CancelFunc
	// calls are those under way, for Close.
	calls sync.WaitGroup

	mu       sync.Mutex
	instance ctf.InstanceKey
}

// NewProvider returns a provider over the directory, which it makes on the
// first Create.
func NewProvider(o Options) (*Provider, error) {
	if o.Directory == "" {
		return nil, errors.New("process provider: no directory given")
	}
	dir, err := filepath.Abs(o.Directory)
	if err != nil {
		return nil, fmt.Errorf("process provider: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Provider{
		store:     &store{root: dir, limit: cmp.Or(o.MaxProcesses, 256)},
		maxOutput: cmp.Or(o.MaxOutput, 1<<20),
		canceled:  ctx,
		cancel:    cancel,
	}, nil
}

// begin joins the caller's context with the provider's own. The returned
// function must be called.
func (p *Provider) begin(ctx context.Context) (context.Context, func()) {
	p.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.canceled, func() { cancel(errors.New("the operation was canceled")) })
	return ctx, func() {
		stop()
		cancel(nil)
		p.calls.Done()
	}
}

// Bind tells whose instance the provider works on, so that what runs can be
// traced to it. Without it a program is known by the identity alone.
func (p *Provider) Bind(key ctf.InstanceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instance = key
}

// challengeOf is empty if the provider was not told.
func (p *Provider) challengeOf(pl place) ctf.ChallengeKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	if string(p.instance.Identity) != pl.identity {
		return ctf.ChallengeKey{}
	}
	return p.instance.Challenge
}

// Handshake says that secrets and outputs may come as they are.
func (p *Provider) Handshake(
	context.Context, plugin.ProviderHandshakeRequest,
) (*plugin.ProviderHandshakeResponse, error) {
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true, AcceptResources: true, AcceptOutputs: true}, nil
}

// CheckConfig accepts any configuration: there is none.
func (p *Provider) CheckConfig(_ context.Context, r plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	return plugin.CheckConfigResponse{Properties: r.News}, nil
}

// DiffConfig finds no difference: there is no configuration.
func (p *Provider) DiffConfig(context.Context, plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	return plugin.DiffConfigResponse{Changes: plugin.DiffNone}, nil
}

// Configure does nothing: there is no configuration.
func (p *Provider) Configure(context.Context, plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	return plugin.ConfigureResponse{}, nil
}

// GetPluginInfo returns the version of the provider.
func (p *Provider) GetPluginInfo(context.Context) (plugin.PluginInfo, error) {
	return plugin.PluginInfo{Version: &semver.Version{Major: 1}}, nil
}

// SignalCancellation makes every call that waits return soon, with an error. A
// program that is not ready by then is stopped.
func (p *Provider) SignalCancellation(context.Context) error {
	p.cancel()
	return nil
}

// Close cancels and waits for the calls under way. Programs run on.
func (p *Provider) Close() error {
	p.cancel()
	p.calls.Wait()
	return nil
}
