package engine

import (
	"context"
	"fmt"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// provider returns a new provider that is bound to the operation.
func (o *operation) provider(name, engine string) (plugin.Provider, error) {
	open, ok := o.session.providers[name]
	if !ok {
		return nil, fmt.Errorf("the provider %q: %w", name, ErrNotOffered)
	}
	p, err := open()
	if err != nil {
		return nil, fmt.Errorf("the provider %q: %w", name, err)
	}
	if binder, ok := p.(Binder); ok {
		binder.Bind(ctf.InstanceKey{Challenge: o.job.Challenge, Identity: o.job.Identity})
	}
	request := plugin.ProviderHandshakeRequest{EngineAddress: engine, ConfigureWithUrn: true}
	if _, err := p.Handshake(o.ctx, request); err != nil && status.Code(err) != codes.Unimplemented {
		closeProvider(p)
		return nil, fmt.Errorf("the provider %q: %w", name, err)
	}
	return &boundProvider{Provider: p, operation: o}, nil
}

// closeProvider ignores the error: a provider that does not implement Close
// returns one.
func closeProvider(p plugin.Provider) { _ = p.Close() }

// A boundProvider ends its calls when the operation stops, begins none after
// the deadline, and does not count against the time of the program: the engine
// hands on contexts that never end.
type boundProvider struct {
	plugin.Provider
	operation *operation
}

// change runs a call that changes something.
func change[Request, Response any](
	b *boundProvider, r Request, isPreview bool, call func(context.Context, Request) (Response, error),
) (Response, error) {
	if !isPreview {
		var none Response
		if b.operation.overdue() {
			return none, errOverdue
		}
		if err := b.operation.ctx.Err(); err != nil {
			return none, fmt.Errorf("the operation was stopped: %w", err)
		}
	}
	return ask(b, r, call)
}

// ask runs a call that changes nothing.
func ask[Request, Response any](
	b *boundProvider, r Request, call func(context.Context, Request) (Response, error),
) (Response, error) {
	defer b.operation.watch.pause()()
	return call(b.operation.ctx, r)
}

func (b *boundProvider) Configure(_ context.Context, r plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	return ask(b, r, b.Provider.Configure)
}

func (b *boundProvider) Check(_ context.Context, r plugin.CheckRequest) (plugin.CheckResponse, error) {
	return ask(b, r, b.Provider.Check)
}

func (b *boundProvider) Diff(_ context.Context, r plugin.DiffRequest) (plugin.DiffResponse, error) {
	return ask(b, r, b.Provider.Diff)
}

func (b *boundProvider) Read(_ context.Context, r plugin.ReadRequest) (plugin.ReadResponse, error) {
	return ask(b, r, b.Provider.Read)
}

func (b *boundProvider) Construct(_ context.Context, r plugin.ConstructRequest) (plugin.ConstructResponse, error) {
	// It registers resources with the engine, which asks before each change.
	return b.Provider.Construct(b.operation.ctx, r) //nolint:contextcheck // what the engine gives never ends
}

func (b *boundProvider) Invoke(_ context.Context, r plugin.InvokeRequest) (plugin.InvokeResponse, error) {
	return ask(b, r, b.Provider.Invoke)
}

func (b *boundProvider) Create(_ context.Context, r plugin.CreateRequest) (plugin.CreateResponse, error) {
	return change(b, r, r.Preview, b.Provider.Create)
}

func (b *boundProvider) Update(_ context.Context, r plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	return change(b, r, r.Preview, b.Provider.Update)
}

func (b *boundProvider) Delete(_ context.Context, r plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	return change(b, r, false, b.Provider.Delete)
}
