package main

import (
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

// registered takes down the resources of a program.
type registered struct {
	mu     sync.Mutex
	inputs map[string]resource.PropertyMap
}

func (r *registered) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inputs[args.TypeToken] = args.Inputs
	return args.Name, resource.PropertyMap{"port": resource.NewProperty(4711.0)}, nil
}

func (r *registered) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func TestDescribe(t *testing.T) {
	t.Parallel()
	r := &registered{inputs: make(map[string]resource.PropertyMap)}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		resp := new(sdk.Response)
		req := &sdk.Request{Ctx: ctx, Config: &sdk.Configuration{Identity: "0123456789abcdef"}}
		if err := describe(req, resp); err != nil {
			return err
		}
		resp.ConnectionInfo.ToStringOutput().ApplyT(func(info string) string {
			if info != "nc 127.0.0.1 4711" {
				t.Errorf("connection info = %q", info)
			}
			return info
		})
		return nil
	}, pulumi.WithMocks("riddle", "test", r))
	if err != nil {
		t.Fatal(err)
	}
	env := r.inputs["process:index:Process"]["env"]
	if !env.ContainsSecrets() || !strings.Contains(env.String(), "MAYFLY{") {
		t.Errorf("environment = %v, want a secret flag", env)
	}
}
