// Package kubernetes is the Pulumi provider for objects of a Kubernetes
// cluster. It applies what a scenario describes by server-side apply, waits by
// watches until it works, and says in plain words why it does not. Every object
// belongs to one instance: it carries the instance's labels, and the instance's
// own ConfigMap owns it, so that nothing outlives that. The package knows
// Pulumi's provider interface and the cluster, and nothing of the engine, of
// records or of Redis.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Package is the name of the Pulumi package that the provider serves.
const Package = "kubernetes"

const (
	defaultReadyTimeout  = 5 * time.Minute
	defaultDeleteTimeout = 5 * time.Minute
)

var errCanceled = errors.New("the operation was canceled")

// Options say where objects are made, and which may be.
type Options struct {
	// Cluster is the connection, which all providers of a process share.
	Cluster *Cluster
	// Namespace is where objects go that name none, unless the program
	// configures the provider with another. Empty is the connection's own.
	Namespace string
	// Installation is the name of this Mayfly among those that share the cluster:
	// objects of another are never touched. It is a label's value; empty is the
	// one without a name.
	Installation string
	// Policy is what a scenario may make; nil is [DefaultPolicy].
	Policy *Policy
	// ReadyTimeout is how long an object may take to work, unless the program
	// says so; 0 is five minutes.
	ReadyTimeout time.Duration
	// DeleteTimeout is how long an object may take to go, unless the program
	// says so; 0 is five minutes.
	DeleteTimeout time.Duration
}

// A Provider makes, changes and deletes objects. It is safe for concurrent use.
type Provider struct {
	plugin.UnimplementedProvider

	cluster       *Cluster
	installation  string
	policy        *Policy
	readyTimeout  time.Duration
	deleteTimeout time.Duration
	owners        *owners
	// canceled ends all waiting, once somebody signals cancellation.
	canceled context.Context
	cancel   context.CancelFunc
	// calls are those under way, for Close.
	calls sync.WaitGroup

	mu        sync.Mutex
	namespace string
	instance  ctf.InstanceKey
}

// NewProvider returns a provider. It asks nothing of the cluster.
func NewProvider(o Options) (*Provider, error) {
	if o.Cluster == nil {
		return nil, errors.New("kubernetes provider: no cluster given")
	}
	policy := o.Policy
	if policy == nil {
		policy = DefaultPolicy()
	}
	if err := policy.Validate(); err != nil {
		return nil, fmt.Errorf("kubernetes provider: %w", err)
	}
	if problems := validation.IsValidLabelValue(o.Installation); len(problems) > 0 {
		return nil, fmt.Errorf("kubernetes provider: installation %q: %s", o.Installation, problems[0])
	}
	namespace := cmp.Or(o.Namespace, o.Cluster.namespace)
	ctx, cancel := context.WithCancel(context.Background())
	return &Provider{
		cluster:       o.Cluster,
		installation:  o.Installation,
		policy:        policy.bind(namespace),
		readyTimeout:  cmp.Or(o.ReadyTimeout, defaultReadyTimeout),
		deleteTimeout: cmp.Or(o.DeleteTimeout, defaultDeleteTimeout),
		owners:        &owners{cluster: o.Cluster},
		namespace:     namespace,
		canceled:      ctx,
		cancel:        cancel,
	}, nil
}

// Bind tells whose instance the provider works on, for the labels of tenant and
// challenge. Without it objects carry the identity alone, which every URN names.
func (p *Provider) Bind(key ctf.InstanceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instance = key
}

// begin joins the caller's context with the provider's own. The returned
// function must be called.
func (p *Provider) begin(ctx context.Context) (context.Context, func()) {
	p.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.canceled, func() { cancel(errCanceled) })
	return ctx, func() {
		stop()
		cancel(nil)
		p.calls.Done()
	}
}

// identityOf is the instance that a resource belongs to: the stack's name.
func identityOf(urn resource.URN) ctf.Identity { return ctf.Identity(urn.Stack().String()) }

// Handshake says that secrets and outputs may come as they are.
func (p *Provider) Handshake(
	context.Context, plugin.ProviderHandshakeRequest,
) (*plugin.ProviderHandshakeResponse, error) {
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true, AcceptResources: true, AcceptOutputs: true}, nil
}

// CheckConfig refuses what would lead to another cluster: that is the
// operator's choice.
func (p *Provider) CheckConfig(_ context.Context, r plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	for _, key := range []resource.PropertyKey{"kubeconfig", "context", "cluster", "renderYamlToDirectory"} {
		if v, ok := r.News[key]; ok && !v.IsNull() {
			return plugin.CheckConfigResponse{}, &RefusalError{
				Rule: "connection", Object: "provider " + r.URN.Name(), Field: string(key),
				Reason: "a scenario can't choose its cluster, leave it out",
			}
		}
	}
	return plugin.CheckConfigResponse{Properties: r.News}, nil
}

// DiffConfig finds a change when the configuration is another. It replaces
// nothing: the namespaces of the objects themselves tell.
func (p *Provider) DiffConfig(_ context.Context, r plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	if r.OldInputs.DeepEquals(r.NewInputs) {
		return plugin.DiffConfigResponse{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffConfigResponse{Changes: plugin.DiffSome}, nil
}

// Configure takes the namespace that the program chose.
func (p *Provider) Configure(_ context.Context, r plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	if value, _, err := decode(r.Inputs["namespace"]); err == nil {
		if namespace, ok := value.(string); ok && namespace != "" {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.namespace = namespace
		}
	}
	return plugin.ConfigureResponse{}, nil
}

// GetPluginInfo returns the version of the SDK whose resources are known.
func (p *Provider) GetPluginInfo(context.Context) (plugin.PluginInfo, error) {
	return plugin.PluginInfo{Version: &semver.Version{Major: 4}}, nil
}

// SignalCancellation makes every call that waits return soon, with an error.
func (p *Provider) SignalCancellation(context.Context) error {
	p.cancel()
	return nil
}

// Close cancels and waits for the calls under way. Objects stay.
func (p *Provider) Close() error {
	p.cancel()
	p.calls.Wait()
	return nil
}
