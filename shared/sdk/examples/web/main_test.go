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
	return args.Name, args.Inputs, nil
}

func (r *registered) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func run(t *testing.T, additional map[string]string) (*registered, string, error) {
	t.Helper()
	r := &registered{inputs: make(map[string]resource.PropertyMap)}
	var info string
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		resp := new(sdk.Response)
		req := &sdk.Request{Ctx: ctx, Config: &sdk.Configuration{Identity: "0123456789abcdef", Additional: additional}}
		if err := describe(req, resp); err != nil {
			return err
		}
		resp.ConnectionInfo.ToStringOutput().ApplyT(func(got string) string {
			info = got
			return got
		})
		return nil
	}, pulumi.WithMocks("web", "test", r))
	return r, info, err
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	r, info, err := run(t, map[string]string{
		"image": "registry.example/web:v1", "hostname": "play.example", "secret": "0123456789abcdef0123456789abcdef",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(info, "http://") || !strings.HasSuffix(info, ".play.example") {
		t.Errorf("connection info = %q", info)
	}
	if data := r.inputs["kubernetes:core/v1:Secret"]["data"]; !data.ContainsSecrets() {
		t.Errorf("data of the Secret = %v, want it secret", data)
	}
	for _, token := range []string{"kubernetes:apps/v1:Deployment", "kubernetes:networking.k8s.io/v1:Ingress"} {
		if r.inputs[token] == nil {
			t.Errorf("there is no %s", token)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	t.Parallel()
	for name, additional := range map[string]map[string]string{
		"image": {"secret": "0123456789abcdef"}, "secret": {"image": "a", "secret": "short"},
	} {
		if r, _, err := run(t, additional); err == nil || !strings.Contains(err.Error(), name) || len(r.inputs) > 0 {
			t.Errorf("without %s: %v, registered %v", name, err, r.inputs)
		}
	}
}
