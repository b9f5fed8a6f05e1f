package kubernetes_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// wrong are the fields that an error names.
func wrong(t *testing.T, err error) []string {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error = %v, want several joined", err)
	}
	var fields []string
	for _, one := range joined.Unwrap() {
		var field *k8s.FieldError
		if !errors.As(one, &field) || field.Message == "" {
			t.Fatalf("error = %v, want one of a field", one)
		}
		fields = append(fields, field.Field)
	}
	return fields
}

func TestCheckContainer(t *testing.T) {
	t.Parallel()
	exposed := []k8s.PortBinding{{Port: 80, ExposeType: k8s.ExposeNodePort}}
	for name, tc := range map[string]struct {
		change func(*k8s.Container)
		want   []string
	}{
		"image":       {func(c *k8s.Container) { c.Image = "" }, []string{".Image"}},
		"image space": {func(c *k8s.Container) { c.Image = "a b" }, []string{".Image"}},
		"port": {func(c *k8s.Container) {
			c.Ports = append(exposed, k8s.PortBinding{Port: 65536, Protocol: "tcp", ExposeType: "nodeport"})
		}, []string{".Ports[1].Port", ".Ports[1].Protocol", ".Ports[1].ExposeType"}},
		"port twice":       {func(c *k8s.Container) { c.Ports = append(exposed, k8s.PortBinding{Port: 80, Protocol: "TCP"}) }, []string{".Ports[1]"}},
		"ingress over UDP": {func(c *k8s.Container) { c.Ports = []k8s.PortBinding{{Port: 1, Protocol: "UDP", ExposeType: "Ingress"}} }, []string{".Ports[0].ExposeType"}},
		"environment": {func(c *k8s.Container) {
			c.Envs = map[string]k8s.Printer{"1": {}, "A": {Fmt: "%d"}, "B": k8s.NewPrinter("%s"), "C": k8s.NewPrinter("", "one"), "D": {}}
			c.Secrets = map[string]string{"D": "", "a b": ""}
			c.SecretRefs = map[string]k8s.SecretRef{"E": {Name: "UPPER", Key: "k"}, "F": {Name: "s"}}
		}, []string{
			".Envs[1]", ".Envs[A]", ".Envs[B]", ".Envs[C]", ".Secrets[D]", ".Secrets[a b]", ".SecretRefs[E]", ".SecretRefs[F]",
			"Containers", // C names its own container
		}},
		"files": {func(c *k8s.Container) {
			c.Files = map[string]string{"relative": "", "/a/../b": "", "/both": "", "/tmp": ""}
			c.SecretFiles = map[string]string{"/both": strings.Repeat("x", 1<<20+1)}
			c.WritableDirs = []string{"/"}
		}, []string{".Files[/a/../b]", ".Files[/tmp]", ".Files[relative]", ".SecretFiles[/both]", ".SecretFiles", ".WritableDirs[0]"}},
		"resources": {func(c *k8s.Container) {
			c.Requests = map[string]string{"cpu": "2", "memory": "64MB", "x": "-1"}
			c.Limits = map[string]string{"cpu": "1", "memory": "500m"}
		}, []string{".Requests[cpu]", ".Requests[memory]", ".Requests[x]", ".Limits[memory]"}},
		"probes": {func(c *k8s.Container) {
			c.Startup = &k8s.Probe{HTTPPath: "x", Command: []string{"y"}}
			c.Readiness = &k8s.Probe{Port: -1}
			c.Liveness = &k8s.Probe{PeriodSeconds: -1}
		}, []string{".Startup.HTTPPath", ".Startup", ".Readiness.Port", ".Liveness"}},
		"security": {func(c *k8s.Container) {
			c.Security = k8s.Security{RunAsUser: -1, AddCapabilities: []string{"CAP_NET_RAW"}}
		}, []string{".Security", ".Security.AddCapabilities[0]"}},
		"pull secret and replicas": {func(c *k8s.Container) { c.ImagePullSecrets, c.Replicas = []string{"A"}, -1 },
			[]string{".ImagePullSecrets[0]", ".Replicas"}},
		"egress": {func(c *k8s.Container) {
			c.Egress = []k8s.Egress{
				{CIDR: "x"}, {CIDR: "169.254.169.254/32"}, {CIDR: "10.1.0.0/16"}, {Port: 70000}, {Protocol: "UDP"}, {CIDR: "fe80::1/128"},
				{CIDR: "::ffff:169.254.169.254/128"},
			}
		}, []string{".Egress[0].CIDR", ".Egress[1].CIDR", ".Egress[2].CIDR", ".Egress[3].Port", ".Egress[4].Port", ".Egress[5].CIDR", ".Egress[6].CIDR"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := k8s.Container{Image: "a", Ports: slices.Clone(exposed)}
			tc.change(&c)
			err := monopod(c).Check()
			for i, field := range tc.want {
				if field == "Containers" {
					tc.want[i] = "Container.Ports"
				} else {
					tc.want[i] = "Container" + field
				}
			}
			if got := wrong(t, err); !slices.Equal(got, tc.want) {
				t.Errorf("wrong = %q, want %q: %v", got, tc.want, err)
			}
		})
	}
}

// All that is wrong is said at once.
func TestCheckSaysEverything(t *testing.T) {
	t.Parallel()
	args := &k8s.ExposedMultipodArgs{
		Identity: "", Label: "A", Hostname: "http://x", FromCIDR: "x", ClusterCIDRs: []string{"y"},
		IngressNamespace: "N", DNSNamespace: "N", IngressClassName: "N", IngressTLS: &k8s.IngressTLS{SecretName: "N"},
		Containers: map[string]k8s.Container{"Upper": {}, "b": {Image: "b", Ports: []k8s.PortBinding{{Port: 80}}}},
		Rules: []k8s.Rule{
			{From: "x", To: "b", On: 80}, {From: "b", To: "x", On: 80}, {From: "b", To: "b", On: 81},
			{From: "b", To: "b", On: 80}, {From: "b", To: "b", On: 80, Protocol: "TCP"}, {From: "b", To: "b", On: 80, Protocol: "UDP"},
		},
	}
	want := []string{
		"Identity", "Label", "Hostname", "FromCIDR", "ClusterCIDRs[0]", "IngressNamespace", "DNSNamespace", "IngressClassName",
		"IngressTLS.SecretName", "Containers[Upper]", "Containers[Upper].Image", "Containers",
		"Rules[0].From", "Rules[1].To", "Rules[2].On", "Rules[4]", "Rules[5].On",
	}
	if got := wrong(t, args.Check()); !slices.Equal(got, want) {
		t.Errorf("wrong = %q, want %q", got, want)
	}
}

func TestCheckPrinters(t *testing.T) {
	t.Parallel()
	for _, reference := range []string{"x", "b", "b:81", "b:80/UDP", "b:"} {
		args := three()
		app := args.Containers["app"]
		app.Envs = map[string]k8s.Printer{"X": k8s.NewPrinter("%s", reference)}
		args.Containers = maps.Clone(args.Containers)
		args.Containers["app"] = app
		args.Containers["b"] = k8s.Container{Image: "b", Ports: []k8s.PortBinding{{Port: 80}, {Port: 82}}}
		if got := wrong(t, args.Check()); !slices.Equal(got, []string{"Containers[app].Envs[X]"}) {
			t.Errorf("%s: wrong = %q", reference, got)
		}
	}
}

// An Ingress needs a name to give names to, a NodePort does not.
func TestCheckHostname(t *testing.T) {
	t.Parallel()
	args := ports()
	args.Hostname = "192.0.2.1"
	if got := wrong(t, args.Check()); !slices.Equal(got, []string{"Container.Ports[0].ExposeType", "Container.Ports[1].ExposeType"}) {
		t.Errorf("wrong = %q", got)
	}
	args.Container.Ports = args.Container.Ports[2:]
	if err := args.Check(); err != nil {
		t.Error(err)
	}
	both := web()
	both.Container.Ports[0].Annotations = map[string]string{"kubernetes.io/ingress.class": "nginx"}
	if got := wrong(t, both.Check()); !slices.Equal(got, []string{"Container.Ports[0].Annotations"}) {
		t.Errorf("wrong = %q", got)
	}
}

// Who says what the cluster's own ranges are may open other private ones.
func TestCheckClusterCIDRs(t *testing.T) {
	t.Parallel()
	args := internet()
	args.Container.Egress = []k8s.Egress{{CIDR: "192.168.7.0/24"}}
	if args.Check() == nil {
		t.Error("a private range is open")
	}
	args.ClusterCIDRs = []string{"10.244.0.0/16", "10.96.0.0/16"}
	if err := args.Check(); err != nil {
		t.Error(err)
	}
	for _, closed := range []string{"10.96.0.1/32", "169.254.169.254/32", "fd00:ec2::254/128", "127.0.0.1/32", "100.100.100.200/32"} {
		args.Container.Egress = []k8s.Egress{{CIDR: closed}}
		if args.Check() == nil {
			t.Errorf("%s is open", closed)
		}
	}
}

// What passes the check can be planned, and nothing panics.
func FuzzPlan(f *testing.F) {
	f.Add("a0b1c2d3", "", "ctf.example", "a", "x%s%%", "app", "cpu", "1.5e3", "/tmp/f", "10.0.0.0/8", 80)
	f.Add("a", "b", "192.0.2.1", " ", "%", "app:80/UDP", "memory", "64Mi", "/", "::/0", 65536)
	f.Fuzz(func(t *testing.T, identity, label, host, image, format, service, resource, quantity, file, cidr string, port int) {
		args := &k8s.ExposedMultipodArgs{
			Identity: identity, Label: label, Hostname: host, FromCIDR: cidr,
			Containers: map[string]k8s.Container{
				"app": {Image: image, Ports: []k8s.PortBinding{{Port: port, ExposeType: k8s.ExposeIngress}, {Port: 1, Protocol: "UDP"}}},
				"b": {
					Image: image, Envs: map[string]k8s.Printer{"A": {Fmt: format, Services: []string{service}}},
					Limits: map[string]string{resource: quantity}, Files: map[string]string{file: format},
					Egress: []k8s.Egress{{CIDR: cidr, Port: port}},
				},
			},
			Rules: []k8s.Rule{{From: "b", To: "app", On: port}},
		}
		failed := args.Check()
		plan, err := args.Plan()
		if (failed == nil) != (err == nil) {
			t.Fatalf("Check: %v, Plan: %v", failed, err)
		}
		if err == nil && (len(plan.Objects) != 7 || len(plan.Endpoints) != 1) {
			t.Errorf("plan = %v", plan)
		}
	})
}
