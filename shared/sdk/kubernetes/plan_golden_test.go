package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

var update = flag.Bool("update", false, "write testdata anew")

// A planner is what both components are described by.
type planner interface {
	Plan() (*k8s.Plan, error)
}

func planned(t *testing.T, p planner) *k8s.Plan {
	t.Helper()
	plan, err := p.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// render is what would be given to kubectl.
func render(t *testing.T, plan *k8s.Plan) []byte {
	t.Helper()
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, o := range plan.Objects {
		if err := encoder.Encode(o.Body); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestPlanGolden(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]planner{
		"web":       web(),
		"three":     three(),
		"ports":     ports(),
		"opened":    opened(),
		"internet":  internet(),
		"from-cidr": monopod(k8s.Container{Image: "a", Ports: []k8s.PortBinding{{Port: 1337, ExposeType: k8s.ExposeLoadBalancer}}}, fromCIDR),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := render(t, planned(t, p))
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (run with -update and look at the difference):\n%s", file, got)
			}
		})
	}
}

// monopod is one with the identity of all tests.
func monopod(c k8s.Container, change ...func(*k8s.ExposedMonopodArgs)) *k8s.ExposedMonopodArgs {
	args := &k8s.ExposedMonopodArgs{Identity: "a0b1c2d3", Hostname: "ctf.example", Container: c}
	for _, f := range change {
		f(args)
	}
	return args
}

func fromCIDR(a *k8s.ExposedMonopodArgs) { a.FromCIDR = "192.168.1.0/24" }

// web has what most challenges have.
func web() *k8s.ExposedMonopodArgs {
	return monopod(k8s.Container{
		Image:            "registry.example/web@sha256:" + strings.Repeat("0", 64),
		ImagePullSecrets: []string{"registry"},
		Command:          []string{"/web"},
		Args:             []string{"--port=80"},
		Ports:            []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeIngress, Annotations: map[string]string{"b": "2", "a": "1"}}},
		Envs:             map[string]k8s.Printer{"PLAIN": k8s.ToPrinter("100% $HOME $(HOME)"), "A": k8s.ToPrinter("a")},
		Secrets:          map[string]string{"FLAG": "MAYFLY{f}"},
		SecretRefs:       map[string]k8s.SecretRef{"TOKEN": {Name: "shared", Key: "token"}},
		Files:            map[string]string{"/etc/motd": "hello\n", "/etc/binary": "\xff\xfe"},
		SecretFiles:      map[string]string{"/flag.txt": "MAYFLY{g}"},
		WritableDirs:     []string{"/var/cache/web"},
		Readiness:        &k8s.Probe{HTTPPath: "/healthz"},
		Limits:           map[string]string{"memory": "32Mi", "cpu": "2"},
		Replicas:         2,
	}, func(a *k8s.ExposedMonopodArgs) {
		a.Label = "web"
		a.IngressNamespace = "ingress-nginx"
		a.IngressLabels = map[string]string{"app.kubernetes.io/component": "controller"}
		a.IngressClassName = "nginx"
		a.IngressTLS = &k8s.IngressTLS{SecretName: "wildcard"}
	})
}

// three are containers that talk to one another, twice between the same two.
func three() *k8s.ExposedMultipodArgs {
	return &k8s.ExposedMultipodArgs{
		Identity: "a0b1c2d3",
		Hostname: "ctf.example",
		Containers: map[string]k8s.Container{
			"app": {
				Image: "app",
				Ports: []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeNodePort}},
				Envs: map[string]k8s.Printer{
					"DB":    k8s.NewPrinter("mongodb://%s:27017/app?x=%%20", "db:27017"),
					"CACHE": k8s.NewPrinter("%s", "cache"),
				},
			},
			"cache": {Image: "cache", Ports: []k8s.PortBinding{{Port: 6379}}},
			"db":    {Image: "db", Ports: []k8s.PortBinding{{Port: 27018}, {Port: 27017}}, Security: k8s.Security{WritableRoot: true}},
		},
		Rules: []k8s.Rule{
			{From: "app", To: "db", On: 27018},
			{From: "app", To: "db", On: 27017},
			{From: "app", To: "cache", On: 6379},
		},
	}
}

// ports has several of every kind.
func ports() *k8s.ExposedMonopodArgs {
	return monopod(k8s.Container{Image: "a", Ports: []k8s.PortBinding{
		{Port: 8081, ExposeType: k8s.ExposeIngress},
		{Port: 8080, ExposeType: k8s.ExposeIngress},
		{Port: 53, Protocol: k8s.UDP, ExposeType: k8s.ExposeNodePort},
		{Port: 53, ExposeType: k8s.ExposeNodePort},
		{Port: 9000, Protocol: k8s.UDP, ExposeType: k8s.ExposeLoadBalancer},
		{Port: 22},
	}})
}

// opened opens all that is closed.
func opened() *k8s.ExposedMonopodArgs {
	return monopod(k8s.Container{
		Image: "a",
		Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}},
		Security: k8s.Security{
			AllowRoot: true, AllowPrivilegeEscalation: true, SeccompUnconfined: true, WritableRoot: true,
			RunAsUser: 1000, RunAsGroup: 1001, AddCapabilities: []string{"SYS_PTRACE", "NET_ADMIN"},
		},
		Startup:  &k8s.Probe{Off: true},
		Liveness: &k8s.Probe{Command: []string{"/check"}, PeriodSeconds: 20, TimeoutSeconds: 5, FailureThreshold: 2},
		Requests: map[string]string{"memory": "1Gi", "example.com/gpu": "1"},
		Limits:   map[string]string{"example.com/gpu": "1"},
	})
}

func internet() *k8s.ExposedMonopodArgs {
	return monopod(k8s.Container{
		Image: "a",
		Ports: []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}},
		Egress: []k8s.Egress{
			{},
			{Port: 443},
			{CIDR: "203.0.113.0/24", Port: 53, Protocol: k8s.UDP},
		},
	})
}

// The same description gives the same bytes, however maps are walked.
func TestPlanIsStable(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]func() planner{
		"web":   func() planner { return web() },
		"three": func() planner { return three() },
		"ports": func() planner { return ports() },
	} {
		want, err := json.Marshal(planned(t, p()))
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if got, err := json.Marshal(planned(t, p())); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %v\n%s\n%s", name, err, got, want)
			}
		}
	}
}
