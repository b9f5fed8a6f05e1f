package manifest_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

const identity = "a0b1c2d3e4f50617"

// A cluster takes down what is registered, and gives services a port.
type cluster struct {
	mu      sync.Mutex
	objects map[string]map[string]any // by kind/name
}

func (c *cluster) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := args.Inputs.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
		if v.IsSecret() {
			return v.SecretValue().Element.Mappable(), true
		}
		return nil, false
	})
	kind := args.TypeToken[strings.LastIndex(args.TypeToken, ":")+1:]
	c.objects[kind+"/"+strings.TrimPrefix(args.Name, "instance.")] = state
	if spec, ok := state["spec"].(map[string]any); ok && spec["type"] == "NodePort" {
		ports, _ := spec["ports"].([]any)
		port, _ := ports[0].(map[string]any)
		port["nodePort"] = 30123
	}
	state["status"] = map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.7"}}}}
	return args.Name, resource.NewPropertyMapFromMap(state), nil
}

func (c *cluster) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) { return args.Args, nil }

// A made instance is what players get, and the objects.
type made struct {
	connection string
	flags      []string
	*cluster
}

func platform() manifest.Platform { return manifest.Platform{Hostname: "ctf.example"} }

// deploy runs a manifest with additional settings in pairs.
func deploy(t *testing.T, m *manifest.Manifest, p manifest.Platform, additional ...string) (made, error) {
	t.Helper()
	settings := map[string]string{}
	for i := 0; i < len(additional); i += 2 {
		settings[additional[i]] = additional[i+1]
	}
	encoded, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	out := made{cluster: &cluster{objects: make(map[string]map[string]any)}}
	var factory sdk.Factory = func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		if err := m.Factory(p)(req, resp, opts...); err != nil {
			return err
		}
		pulumi.All(resp.ConnectionInfo, resp.Flags).ApplyT(func(got []any) error {
			out.connection, _ = got[0].(string)
			out.flags, _ = got[1].([]string)
			return nil
		})
		return nil
	}
	config := map[string]string{"project:identity": identity, "project:additional": string(encoded)}
	err = pulumi.RunErr(func(ctx *pulumi.Context) error { return factory.Describe(ctx, "project", "") },
		pulumi.WithMocks("project", "stack", out.cluster), func(info *pulumi.RunInfo) { info.Config = maps.Clone(config) })
	return out, err
}

func parse(t *testing.T, text string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFactory(t *testing.T) {
	t.Parallel()
	m := parse(t, `
name: web
secret: 0123456789abcdef0123456789abcdef
flags:
  flag: {random: 32, format: "CTF{%s}"}
containers:
  web:
    image: registry.example/web:1
    ports: [{port: 8080, expose: ingress}]
    env:
      FLAG: ${flag}
      PLAIN: 0755
connection: ${url}
`)
	out, err := deploy(t, m, manifest.Platform{Hostname: "ctf.example", TLS: &kubernetes.IngressTLS{}})
	if err != nil {
		t.Fatal(err)
	}
	digits, err := sdk.Derive("0123456789abcdef0123456789abcdef", identity, "flag")
	if err != nil {
		t.Fatal(err)
	}
	if want := "CTF{" + digits[:32] + "}"; len(out.flags) != 1 || out.flags[0] != want {
		t.Errorf("flags are %q, want %s", out.flags, want)
	}
	if !strings.HasPrefix(out.connection, "https://") || !strings.HasSuffix(out.connection, ".ctf.example") {
		t.Errorf("connection is %q", out.connection)
	}
	data, _ := out.objects["Secret/web"]["data"].(map[string]any)
	if got := data["env.FLAG"]; got != base64.StdEncoding.EncodeToString([]byte(out.flags[0])) {
		t.Errorf("the secret has %v", data)
	}
	if text, _ := json.Marshal(out.objects["Deployment/web"]); strings.Contains(string(text), digits[:32]) {
		t.Errorf("the deployment has the flag: %s", text)
	}
}
