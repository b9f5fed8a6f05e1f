package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/env"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// ErrNotOffered is what a program is told that needs what there is not. Who
// knows what to do about a provider of [Providers] may wrap it.
var ErrNotOffered = errors.New("this server does not offer it")

// A host gives Pulumi's engine the providers and the way to run the program of
// one operation.
type host struct {
	operation *operation
	log       diag.Sink
	address   string
	stop      chan bool
	served    <-chan error
}

var _ plugin.Host = (*host)(nil)

func newHost(o *operation, log diag.Sink) (*host, error) {
	h := &host{operation: o, log: log, stop: make(chan bool, 1)}
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: h.stop,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterEngineServer(server, &programLog{words: o.words})
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("listen for the program: %w", err)
	}
	h.address, h.served = "127.0.0.1:"+strconv.Itoa(handle.Port), handle.Done
	return h, nil
}

func (h *host) ServerAddr() string { return h.address }

func (h *host) Log(severity diag.Severity, urn resource.URN, message string, stream int32) {
	h.log.Logf(severity, diag.StreamMessage(urn, "%s", stream), message)
}

func (h *host) LogStatus(diag.Severity, resource.URN, string, int32) {}

// Provider returns a new provider of ours; there are no others.
func (h *host) Provider(_ *plugin.Context, d workspace.PluginDescriptor, _ env.Env) (plugin.Provider, error) {
	return h.operation.provider(d.Name, h.address)
}

func (h *host) LanguageRuntime(*plugin.Context, string) (plugin.LanguageRuntime, error) {
	if p := h.operation.job.Program; p != nil && p.Binary == "" {
		return &inProcess{operation: h.operation, engine: h.address}, nil
	}
	return &execRuntime{operation: h.operation, engine: h.address}, nil
}

func (h *host) PolicyAnalyzer(*plugin.Context, tokens.QName, string, *plugin.PolicyAnalyzerOptions) (plugin.Analyzer, error) {
	return nil, ErrNotOffered
}

func (h *host) ResolvePlugin(*plugin.Context, workspace.PluginDescriptor) (*workspace.PluginInfo, error) {
	return nil, ErrNotOffered
}

func (h *host) ReleaseContext(*plugin.Context) error                 { return nil }
func (h *host) Loader(*plugin.Context) (*plugin.GrpcServer, error)   { return nil, nil }
func (h *host) Mapper(*plugin.Context) (*plugin.GrpcServer, error)   { return nil, nil }
func (h *host) Resolver(*plugin.Context) (*plugin.GrpcServer, error) { return nil, nil }
func (h *host) SignalCancellation() error                            { return nil }
func (h *host) StartDebugging(plugin.DebuggingInfo) error            { return ErrNotOffered }
func (h *host) AttachDebugger(plugin.DebugSpec) bool                 { return false }

// Close stops listening. The engine may call it twice.
func (h *host) Close() error {
	select {
	case h.stop <- true:
	default:
	}
	return nil
}

// A programLog is the part of the engine that a program talks to directly.
type programLog struct {
	pulumirpc.UnimplementedEngineServer
	words *words
}

// Log takes a message of the program; only errors are of use to anyone.
func (l *programLog) Log(_ context.Context, r *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	if r.GetSeverity() == pulumirpc.LogSeverity_ERROR && !r.GetEphemeral() {
		l.words.add(subject(resource.URN(r.GetUrn())), r.GetMessage())
	}
	return &emptypb.Empty{}, nil
}

// RequirePulumiVersion agrees to any version: the program was built to run
// here, and says so through the SDK it was built with.
func (l *programLog) RequirePulumiVersion(
	context.Context, *pulumirpc.RequirePulumiVersionRequest,
) (*pulumirpc.RequirePulumiVersionResponse, error) {
	return &pulumirpc.RequirePulumiVersionResponse{}, nil
}
