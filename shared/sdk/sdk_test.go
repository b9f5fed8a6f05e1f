package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/process"
)

// factoryVariable makes the test binary the scenario that it names.
const factoryVariable = "TEST_FACTORY"

func TestMain(m *testing.M) {
	factories := map[string]sdk.Factory{
		"echo":    echo,
		"nothing": func(*sdk.Request, *sdk.Response, ...pulumi.ResourceOption) error { return nil },
		"refuse": func(*sdk.Request, *sdk.Response, ...pulumi.ResourceOption) error {
			return errors.New("not on a Sunday")
		},
		"program": program,
	}
	if factory, ok := factories[os.Getenv(factoryVariable)]; ok {
		sdk.Run(factory)
		return
	}
	os.Exit(m.Run())
}

// echo tells what it was given.
func echo(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	additional, err := json.Marshal(req.Config.Additional)
	if err != nil {
		return err
	}
	var child struct{ pulumi.CustomResourceState }
	if err := req.Ctx.RegisterResource("kubernetes:core/v1:ConfigMap", "map", pulumi.Map{}, &child, opts...); err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.String(req.Config.Identity)
	resp.Flag = pulumi.String("old")
	resp.Flags = pulumi.StringArray{pulumi.String(additional)}
	return nil
}

func program(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
	p, err := process.New(req.Ctx, "service", &process.Args{
		Command:      pulumi.String("./service"),
		Args:         pulumi.StringArray{pulumi.String("--port={port}")},
		Env:          pulumi.StringMap{"FLAG": pulumi.String("f")},
		Files:        map[string]pulumi.Asset{"service": pulumi.NewFileAsset("service"), "x": pulumi.NewStringAsset("y")},
		ReadyTimeout: 2 * time.Second,
	}, opts...)
	if err != nil {
		return err
	}
	resp.ConnectionInfo = pulumi.Sprintf("%s %d", p.Address, p.Port)
	return nil
}

// A monitor is the side of Pulumi's engine that a program sees. It takes down
// what is registered.
type monitor struct {
	pulumirpc.UnimplementedResourceMonitorServer
	pulumirpc.UnimplementedEngineServer

	mu        sync.Mutex
	resources map[string]*pulumirpc.RegisterResourceRequest
	outputs   map[string]any
	logged    bytes.Buffer
	called    time.Time // the first time
}

func (m *monitor) SupportsFeature(context.Context, *pulumirpc.SupportsFeatureRequest) (*pulumirpc.SupportsFeatureResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.called.IsZero() {
		m.called = time.Now()
	}
	return &pulumirpc.SupportsFeatureResponse{}, nil
}

func (m *monitor) RegisterResource(_ context.Context, r *pulumirpc.RegisterResourceRequest) (*pulumirpc.RegisterResourceResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resources[r.Type] = r
	state := r.GetObject()
	if r.Type == "process:index:Process" {
		var err error
		if state, err = structpb.NewStruct(map[string]any{"address": "127.0.0.1:7", "port": 7}); err != nil {
			return nil, err
		}
	}
	return &pulumirpc.RegisterResourceResponse{
		Urn: "urn:pulumi:s::p::" + r.Type + "::" + r.Name, Id: "id-of-" + r.Name, Object: state,
	}, nil
}

func (m *monitor) RegisterResourceOutputs(_ context.Context, r *pulumirpc.RegisterResourceOutputsRequest) (*emptypb.Empty, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outputs = r.GetOutputs().AsMap()
	return &emptypb.Empty{}, nil
}

func (m *monitor) SignalAndWaitForShutdown(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (m *monitor) GetRootResource(context.Context, *pulumirpc.GetRootResourceRequest) (*pulumirpc.GetRootResourceResponse, error) {
	return &pulumirpc.GetRootResourceResponse{}, nil
}

func (m *monitor) SetRootResource(context.Context, *pulumirpc.SetRootResourceRequest) (*pulumirpc.SetRootResourceResponse, error) {
	return &pulumirpc.SetRootResourceResponse{}, nil
}

func (m *monitor) Log(_ context.Context, r *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logged.WriteString(r.GetMessage())
	return &emptypb.Empty{}, nil
}

// serve starts a monitor for one program.
func serve(t testing.TB) (m *monitor, address string) {
	t.Helper()
	m = &monitor{resources: make(map[string]*pulumirpc.RegisterResourceRequest)}
	stop := make(chan bool)
	server, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: stop, Init: func(s *grpc.Server) error {
		pulumirpc.RegisterResourceMonitorServer(s, m)
		pulumirpc.RegisterEngineServer(s, m)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(stop); <-server.Done })
	return m, fmt.Sprintf("127.0.0.1:%d", server.Port)
}

// runScenario runs a factory as Mayfly does and returns what it registered. The
// environment is all that it gets.
func runScenario(t *testing.T, factory string, conf map[string]string, env ...string) (*monitor, error) {
	t.Helper()
	m, address := serve(t)
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(env, factoryVariable+"="+factory, "PULUMI_PROJECT=p", "PULUMI_STACK=s", "PULUMI_CONFIG="+string(text),
		"PULUMI_MONITOR="+address, "PULUMI_ENGINE="+address)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		t.Logf("%s", out)
	}
	return m, err
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		factory string
		conf    map[string]string
		env     []string
		want    map[string]any
	}{
		"all": {"echo", map[string]string{"q:identity": "i", "q:additional": `{"k":"v"}`}, []string{"CM_PROJECT=q"},
			map[string]any{"connection_info": "i", "flag": "old", "flags": []any{`{"k":"v"}`}}},
		"own project": {"echo", map[string]string{"p:identity": "i", "p:additional": `{}`}, nil,
			map[string]any{"connection_info": "i", "flag": "old", "flags": []any{`{}`}}},
		"without additional": {"echo", map[string]string{"p:identity": "i"}, nil,
			map[string]any{"connection_info": "i", "flag": "old", "flags": []any{`{}`}}},
		"additional is null": {"echo", map[string]string{"p:identity": "i", "p:additional": "null"}, nil,
			map[string]any{"connection_info": "i", "flag": "old", "flags": []any{`{}`}}},
		"sets nothing": {"nothing", map[string]string{"p:identity": "i"}, nil,
			map[string]any{"connection_info": "", "flags": []any{}}},
		"program": {"program", map[string]string{"p:identity": "i"}, nil,
			map[string]any{"connection_info": "127.0.0.1:7 7", "flags": []any{}}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			m, err := runScenario(t, tc.factory, tc.conf, tc.env...)
			if err != nil || !reflect.DeepEqual(m.outputs, tc.want) {
				t.Errorf("outputs = %v, want %v; %v %s", m.outputs, tc.want, err, m.logged.String())
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		factory string
		conf    map[string]string
		want    string
	}{
		"factory refuses":      {"refuse", map[string]string{"p:identity": "i"}, "not on a Sunday"},
		"no identity":          {"echo", nil, "identity of the instance"},
		"malformed additional": {"echo", map[string]string{"p:identity": "i", "p:additional": `{"k":1}`}, "additional settings"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			m, err := runScenario(t, tc.factory, tc.conf)
			if err == nil || !strings.Contains(m.logged.String(), tc.want) {
				t.Errorf("error = %v, logged %q, want %q", err, m.logged.String(), tc.want)
			}
		})
	}
}

func TestRunTargetsNamespace(t *testing.T) {
	t.Parallel()
	conf := map[string]string{"p:identity": "i"}
	m, err := runScenario(t, "echo", conf, "KUBERNETES_TARGET_NAMESPACE=games")
	if err != nil {
		t.Fatal(err)
	}
	provider, child := m.resources["pulumi:providers:kubernetes"], m.resources["kubernetes:core/v1:ConfigMap"]
	if provider == nil || provider.GetName() != "target" || provider.GetObject().AsMap()["namespace"] != "games" {
		t.Errorf("provider = %v", provider)
	}
	if !strings.HasSuffix(child.GetProvider(), "::target::id-of-target") {
		t.Errorf("provider of the resource = %q", child.GetProvider())
	}
	if m, err = runScenario(t, "echo", conf); err != nil || m.resources["pulumi:providers:kubernetes"] != nil {
		t.Errorf("without a namespace: %v %v", err, slices.Collect(maps.Keys(m.resources)))
	}
}

func TestRunRegistersProcess(t *testing.T) {
	t.Parallel()
	m, err := runScenario(t, "program", map[string]string{"p:identity": "i"})
	if err != nil {
		t.Fatal(err)
	}
	got := m.resources["process:index:Process"].GetObject().AsMap()
	files, _ := got["files"].(map[string]any)
	file, _ := files["service"].(map[string]any)
	if path, _ := file["path"].(string); !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/service") {
		t.Errorf("path of the file = %v, want it absolute", file)
	}
	delete(got, "files")
	want := map[string]any{
		"command": "./service", "args": []any{"--port={port}"}, "env": map[string]any{"FLAG": "f"}, "readyTimeout": 2.0,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("inputs = %v, want %v", got, want)
	}
}

// What the SDK links decides how large and how slow to start every scenario is.
func TestLinksNoProvider(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, heavy := range []string{"github.com/pulumi/pulumi-", "k8s.io/", "github.com/pulumi/pulumi/pkg/"} {
			if strings.HasPrefix(pkg, heavy) {
				t.Errorf("links %s", pkg)
			}
		}
	}
}
