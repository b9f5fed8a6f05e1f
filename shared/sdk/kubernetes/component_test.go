package kubernetes_test

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// A cluster takes down what is registered, and gives services what a cluster
// gives them.
type cluster struct {
	mu      sync.Mutex
	objects map[string]pulumi.MockResourceArgs
}

func (c *cluster) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[args.TypeToken+" "+args.Name] = args
	state := args.Inputs.Mappable()
	if spec, ok := state["spec"].(map[string]any); ok && args.TypeToken == "kubernetes:core/v1:Service" {
		switch spec["type"] {
		case "NodePort":
			ports, _ := spec["ports"].([]any)
			port, _ := ports[0].(map[string]any)
			port["nodePort"] = 30000 + len(c.objects)
		case "LoadBalancer":
			state["status"] = map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.7"}}}}
		}
	}
	return args.Name + "_id", resource.NewPropertyMapFromMap(state), nil
}

func (c *cluster) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) { return args.Args, nil }

// run runs a program, and returns what it registered.
func run(t *testing.T, program pulumi.RunFunc, opts ...pulumi.RunOption) (*cluster, error) {
	t.Helper()
	c := &cluster{objects: make(map[string]pulumi.MockResourceArgs)}
	err := pulumi.RunErr(program, append(opts, pulumi.WithMocks("project", "stack", c))...)
	return c, err
}

// A challenge is either of both components.
type challenge func(ctx *pulumi.Context, opts ...pulumi.ResourceOption) (urls pulumi.Output, err error)

func mono(args *k8s.ExposedMonopodArgs) challenge {
	return func(ctx *pulumi.Context, opts ...pulumi.ResourceOption) (pulumi.Output, error) {
		pod, err := k8s.NewExposedMonopod(ctx, "test", args, opts...)
		if err != nil {
			return nil, err
		}
		return pod.URLs.ApplyT(func(urls map[string]string) map[string]map[string]string {
			return map[string]map[string]string{"one": urls}
		}), nil
	}
}

func multi(args *k8s.ExposedMultipodArgs) challenge {
	return func(ctx *pulumi.Context, opts ...pulumi.ResourceOption) (pulumi.Output, error) {
		pods, err := k8s.NewExposedMultipod(ctx, "test", args, opts...)
		if err != nil {
			return nil, err
		}
		return pods.URLs, nil
	}
}

// deploy returns the addresses of a challenge.
func deploy(t *testing.T, c challenge) (urls map[string]map[string]string, err error) {
	t.Helper()
	_, err = run(t, func(ctx *pulumi.Context) error {
		out, err := c(ctx)
		if err != nil {
			return err
		}
		out.ApplyT(func(got any) error {
			urls, _ = got.(map[string]map[string]string)
			return nil
		})
		return nil
	})
	return urls, err
}

func node(p ...k8s.PortBinding) k8s.Container { return k8s.Container{Image: "a", Ports: p} }

// change is three with another container or rule.
func change(f func(*k8s.ExposedMultipodArgs)) challenge {
	args := three()
	f(args)
	return multi(args)
}

func setEnv(name string, p k8s.Printer) func(*k8s.ExposedMultipodArgs) {
	return func(a *k8s.ExposedMultipodArgs) {
		c := a.Containers[name]
		c.Envs = map[string]k8s.Printer{"OTHER": p}
		a.Containers[name] = c
	}
}

func setPorts(name string, p ...k8s.PortBinding) func(*k8s.ExposedMultipodArgs) {
	return func(a *k8s.ExposedMultipodArgs) {
		c := a.Containers[name]
		c.Ports = p
		a.Containers[name] = c
	}
}

// The names are those of chall-manager's own tests, and so is what becomes of
// them.
func TestExposed(t *testing.T) {
	t.Parallel()
	exposed := k8s.PortBinding{Port: 8080, ExposeType: k8s.ExposeNodePort}
	limited := node(exposed)
	limited.Limits = map[string]string{"cpu": "500m", "memory": "128Mi"}
	filled := node(exposed)
	filled.Envs = map[string]k8s.Printer{"FLAG": k8s.ToPrinter("MAYFLY{f}")}
	filled.Files = map[string]string{"/etc/shadow": "root:!:20009:0:99999:7:::\n"}
	for name, tc := range map[string]struct {
		challenge challenge
		fails     bool
	}{
		"monopod nil-args":            {mono(nil), true},
		"monopod empty-args":          {mono(&k8s.ExposedMonopodArgs{}), true},
		"monopod basic":               {mono(monopod(node(exposed))), false},
		"monopod labeled":             {mono(monopod(node(exposed), func(a *k8s.ExposedMonopodArgs) { a.Label = "something" })), false},
		"monopod ingress":             {mono(web()), false},
		"monopod with-limits":         {mono(monopod(limited)), false},
		"monopod from-cidr":           {mono(monopod(node(exposed), fromCIDR)), false},
		"monopod with-envs-and-files": {mono(monopod(filled)), false},
		"monopod no-ports":            {mono(monopod(node())), true},
		"monopod many-ports":          {mono(ports()), false},
		"monopod shared-port": {mono(monopod(node(exposed,
			k8s.PortBinding{Port: 8080, Protocol: k8s.UDP, ExposeType: k8s.ExposeNodePort}))), false},
		"multipod nil-args":              {multi(nil), true},
		"multipod empty-args":            {multi(&k8s.ExposedMultipodArgs{}), true},
		"multipod vip-only":              {multi(three()), false},
		"multipod cycles":                {change(setEnv("db", k8s.NewPrinter("%s:8080", "app"))), true},
		"multipod complex":               {change(setPorts("cache", k8s.PortBinding{Port: 6379, ExposeType: k8s.ExposeIngress})), false},
		"multipod printer":               {change(setEnv("app", k8s.NewPrinter("%s %s", "db:27017/TCP", "cache:6379"))), false},
		"multipod printer-unexisting":    {change(setEnv("app", k8s.NewPrinter("http://%s", "pouet"))), true},
		"multipod unexposed":             {change(setPorts("app", k8s.PortBinding{Port: 8080})), true},
		"multipod duplicate-portbinding": {change(setPorts("app", exposed, exposed)), true},
		"multipod duplicate-rule":        {change(func(a *k8s.ExposedMultipodArgs) { a.Rules = append(a.Rules, a.Rules[0]) }), true},
		"multipod loadbalancer":          {change(setPorts("app", k8s.PortBinding{Port: 80, ExposeType: k8s.ExposeLoadBalancer})), false},
	} {
		t.Run(strings.ReplaceAll(name, " ", "/"), func(t *testing.T) {
			t.Parallel()
			urls, err := deploy(t, tc.challenge)
			if (err != nil) != tc.fails {
				t.Fatalf("error = %v, want one: %v", err, tc.fails)
			}
			count := 0
			for _, ports := range urls {
				for port, at := range ports {
					if _, err := url.Parse("//" + at); err != nil || at == "" {
						t.Errorf("%s is at %q: %v", port, at, err)
					}
					count++
				}
			}
			if !tc.fails && count == 0 {
				t.Error("nothing can be reached")
			}
		})
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	urls, err := deploy(t, mono(ports()))
	if err != nil {
		t.Fatal(err)
	}
	got := urls["one"]
	keys := slices.Sorted(maps.Keys(got))
	if want := []string{"53/TCP", "53/UDP", "8080/TCP", "8081/TCP", "9000/UDP"}; !slices.Equal(keys, want) {
		t.Errorf("ports = %q, want %q", keys, want)
	}
	if got["9000/UDP"] != "192.0.2.7:9000" || !strings.HasPrefix(got["53/TCP"], "ctf.example:30") ||
		got["53/TCP"] == got["53/UDP"] || got["8080/TCP"] == got["8081/TCP"] || !strings.HasSuffix(got["8080/TCP"], ".ctf.example") {
		t.Errorf("addresses = %v", got)
	}
}

// Every object comes to the engine as it was planned, below its component, for
// the provider that the operator chose, after what it needs, and with its
// secrets kept.
func TestRegister(t *testing.T) {
	t.Parallel()
	var target struct{ pulumi.ProviderResourceState }
	c, err := run(t, func(ctx *pulumi.Context) error {
		if err := ctx.RegisterResource("pulumi:providers:kubernetes", "target", pulumi.Map{}, &target); err != nil {
			return err
		}
		_, err := mono(web())(ctx, pulumi.Provider(&target))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range planned(t, web()).Objects {
		args, ok := c.objects[o.Token()+" test."+o.Name]
		if !ok {
			t.Errorf("%s is not registered", o.Key())
			continue
		}
		rpc := args.RegisterRPC
		if !strings.HasSuffix(rpc.GetParent(), "kubernetes.ExposedMonopod::test") || !strings.Contains(args.Provider, "::target::") {
			t.Errorf("%s: parent %q, provider %q", o.Key(), rpc.GetParent(), args.Provider)
		}
		if len(rpc.GetDependencies()) != len(o.After) {
			t.Errorf("%s depends on %q, want %q", o.Key(), rpc.GetDependencies(), o.After)
		}
		if args.Inputs.ContainsSecrets() != o.Sensitive {
			t.Errorf("%s: secret is %v", o.Key(), !o.Sensitive)
		}
		if !o.Sensitive && !equal(t, args.Inputs.Mappable(), o.Body) {
			t.Errorf("%s: inputs = %v, want %v", o.Key(), args.Inputs, o.Body)
		}
	}
}

// A wrong description registers nothing.
func TestRegisterNothing(t *testing.T) {
	t.Parallel()
	for _, wrong := range []challenge{mono(monopod(node())), change(setPorts("app"))} {
		c, err := run(t, func(ctx *pulumi.Context) error {
			_, err := wrong(ctx)
			return err
		})
		if err == nil || len(c.objects) > 0 {
			t.Errorf("error = %v, registered %v", err, c.objects)
		}
	}
}

// An output of another resource reaches the environment, and stays secret.
func TestRegisterOutputs(t *testing.T) {
	t.Parallel()
	args := monopod(node(k8s.PortBinding{Port: 80, ExposeType: k8s.ExposeNodePort}))
	args.Container.EnvOutputs = map[string]pulumi.StringInput{
		"PASSWORD": pulumi.ToSecret(pulumi.String("hunter2").ToStringOutput()).(pulumi.StringOutput),
	}
	c, err := run(t, func(ctx *pulumi.Context) error {
		_, err := mono(args)(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	inputs := c.objects["kubernetes:apps/v1:Deployment test.one"].Inputs
	if !inputs.ContainsSecrets() || !strings.Contains(resource.NewProperty(inputs).String(), "hunter2") {
		t.Errorf("inputs = %v", inputs)
	}
}
