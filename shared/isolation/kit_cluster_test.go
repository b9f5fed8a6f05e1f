//go:build cluster

package isolation_test

import (
	"context"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

func programs() map[string]string { return map[string]string{"kit": "testdata/scenario"} }

// tiny is what a probe asks for.
func tiny() map[string]string { return map[string]string{"cpu": "1m", "memory": "8Mi"} }

// Each way to describe an instance does on a real cluster what it promises.
func TestKit(t *testing.T) {
	t.Parallel()
	s := newStage(t, programs())
	for name, test := range map[string]func(*testing.T, *stage){
		"container": container, "ingress": ingress, "rules": rules, "load_balancer": loadBalancer, "opened": opened,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// container plays all that one container can have.
func container(t *testing.T, s *stage) {
	_, err := s.Typed.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "shared"}, StringData: map[string]string{"token": "from a secret"},
	}, metav1.CreateOptions{})
	ok(t, err)
	args := &k8s.ExposedMonopodArgs{Hostname: s.node, Container: k8s.Container{
		Image: s.image, Args: []string{"http=:80", "tcp=:7000", "udp=:7000"},
		Ports: []k8s.PortBinding{
			{Port: 80, ExposeType: k8s.ExposeNodePort}, // below 1024, and it is no root
			{Port: 7000, ExposeType: k8s.ExposeNodePort},
			{Port: 7000, Protocol: k8s.UDP, ExposeType: k8s.ExposeNodePort},
		},
		Envs:         map[string]k8s.Printer{"PLAIN": k8s.ToPrinter("100% $HOME $(HOME)")},
		Secrets:      map[string]string{"FLAG": "MAYFLY{one}"},
		SecretRefs:   map[string]k8s.SecretRef{"TOKEN": {Name: "shared", Key: "token"}},
		Files:        map[string]string{"/etc/motd": "hello\n"},
		SecretFiles:  map[string]string{"/flag.txt": "MAYFLY{file}"},
		WritableDirs: []string{"/var/cache/web"},
		Readiness:    &k8s.Probe{HTTPPath: "/user", PeriodSeconds: 1},
		Liveness:     &k8s.Probe{HTTPPath: "/user"},
		Requests:     tiny(),
	}}
	i := s.kit(t, "monopod", args)
	ok(t, s.engine.Preview(t.Context(), i.program))
	i.up(t)
	at := func() door { return door{t, i.at(t, "one", "80/TCP")} }
	want(t, "the user", func() string { return at().ask("/user") }, "65532")
	for _, tc := range [][]string{
		{"100% $HOME $(HOME)", "/env", "name", "PLAIN"}, {"MAYFLY{one}", "/env", "name", "FLAG"},
		{"from a secret", "/env", "name", "TOKEN"}, {"hello\n", "/file", "path", "/etc/motd"},
		{"MAYFLY{file}", "/file", "path", "/flag.txt"},
		{"written", "/write", "path", "/tmp/x"}, {"written", "/write", "path", "/var/cache/web/x"},
		{"no: open /x: read-only file system", "/write", "path", "/x"},
	} {
		if got := at().ask(tc[1], tc[2:]...); got != tc[0] {
			t.Errorf("%v = %q, want %q", tc[1:], got, tc[0])
		}
	}
	if got := at().ask("/file", "path", "/var/run/secrets/kubernetes.io/serviceaccount/token"); !strings.Contains(got, "no such file") {
		t.Errorf("there is a token: %s", got)
	}
	for _, network := range []string{"tcp", "udp"} {
		want(t, network, func() string {
			got, _ := exchange(network, i.at(t, "one", "7000/"+strings.ToUpper(network)), "ping")
			return got
		}, "ping")
	}
	before := i.info
	i.up(t) // nothing changes
	args.Container.Secrets["FLAG"], args.Container.Files["/etc/motd"] = "MAYFLY{two}", "bye\n"
	i.describe(t, "monopod", args)
	i.up(t)
	if i.info != before {
		t.Errorf("addresses changed from %s to %s", before, i.info)
	}
	want(t, "the flag", func() string { return at().ask("/env", "name", "FLAG") }, "MAYFLY{two}")
	want(t, "the file", func() string { return at().ask("/file", "path", "/etc/motd") }, "bye\n")
	i.down(t)
}

// ingress plays two ports of one container by their hosts.
func ingress(t *testing.T, s *stage) {
	i := s.kit(t, "monopod", &k8s.ExposedMonopodArgs{Hostname: "kit.test", Container: k8s.Container{
		Image: s.image, Args: []string{"http=:8080", "http=:8081"}, Requests: tiny(),
		Ports: []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeIngress}, {Port: 8081, ExposeType: k8s.ExposeIngress}},
	}})
	i.up(t)
	for _, port := range []string{"8080/TCP", "8081/TCP"} {
		host := i.at(t, "one", port)
		want(t, host, func() string { return door{t, host}.ask("/user") }, "65532")
	}
	i.down(t)
}

// rules plays three containers: what a rule allows is open, and nothing else.
func rules(t *testing.T, s *stage) {
	probe := k8s.Container{
		Image: s.image, Args: []string{"http=:8080", "tcp=:7001", "tcp=:7002", "udp=:7001", "tcp=:7003"}, Requests: tiny(),
		Ports: []k8s.PortBinding{{Port: 8080}, {Port: 7001}, {Port: 7001, Protocol: k8s.UDP}, {Port: 7002}, {Port: 7003}},
	}
	front, back := probe, probe
	front.Ports = []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeNodePort}}
	front.Envs = map[string]k8s.Printer{
		"TCP": k8s.NewPrinter("%s:7001", "back:7001"), "UDP": k8s.NewPrinter("%s:7001", "back:7001/UDP"),
		"SECOND": k8s.NewPrinter("%s:7002", "back:7002"), "CLOSED": k8s.NewPrinter("%s:7003", "back:7003"),
		"OTHER": k8s.NewPrinter("%s:8080", "other:8080"),
	}
	args := &k8s.ExposedMultipodArgs{
		Hostname: s.node, Containers: map[string]k8s.Container{"front": front, "back": back, "other": probe},
		Rules: []k8s.Rule{
			{From: "front", To: "back", On: 7001}, {From: "front", To: "back", On: 7002},
			{From: "front", To: "back", On: 7001, Protocol: k8s.UDP},
		},
	}
	i := s.kit(t, "multipod", args)
	i.up(t)
	at := door{t, i.at(t, "front", "8080/TCP")}
	dial := func(name string) string {
		network := "tcp"
		if name == "UDP" {
			network = "udp"
		}
		return at.ask("/dial", "network", network, "send", "ping", "address", at.ask("/env", "name", name))
	}
	for _, name := range []string{"TCP", "UDP", "SECOND"} {
		want(t, name, func() string { return dial(name) }, "yes: ping")
	}
	for _, name := range []string{"CLOSED", "OTHER"} {
		wantPart(t, name+" is closed", func() string { return dial(name) }, "no: ")
	}
	args.Rules = append(args.Rules, k8s.Rule{From: "front", To: "back", On: 7003})
	i.describe(t, "multipod", args)
	i.up(t)
	want(t, "the new rule", func() string { return dial("CLOSED") }, "yes: ping")
	i.down(t)
}

// loadBalancer gives the addresses that the controller of a load balancer
// would.
func loadBalancer(t *testing.T, s *stage) {
	for _, at := range []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}, {Hostname: "lb.kit.test"}} {
		i := s.kit(t, "monopod", &k8s.ExposedMonopodArgs{Hostname: "kit.test", Container: k8s.Container{
			Image: s.image, Requests: tiny(), Ports: []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeLoadBalancer}},
		}})
		given := make(chan error, 1)
		go func() { given <- s.balance(t.Context(), i, at) }()
		i.up(t)
		ok(t, <-given)
		if got, want := i.at(t, "one", "8080/TCP"), net.JoinHostPort(at.IP+at.Hostname, "8080"); got != want {
			t.Errorf("address = %s, want %s", got, want)
		}
		i.down(t)
	}
}

// balance waits for the instance's Service and gives it an address.
func (s *stage) balance(ctx context.Context, i *instance, at corev1.LoadBalancerIngress) error {
	services := s.Typed.CoreV1().Services(s.namespace)
	seen, err := services.Watch(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelIdentity + "=" + string(i.program.Instance.Identity)})
	if err != nil {
		return err
	}
	defer seen.Stop()
	for event := range seen.ResultChan() {
		service, isService := event.Object.(*corev1.Service)
		if !isService || service.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{at}
		_, err := services.UpdateStatus(ctx, service, metav1.UpdateOptions{})
		return err
	}
	return context.Cause(ctx)
}

// opened plays a container that may be root, write to its image and use all
// there is. The image's own user is nobody, who may not write everywhere.
func opened(t *testing.T, s *stage) {
	i := s.kit(t, "monopod", &k8s.ExposedMonopodArgs{Hostname: s.node, Container: k8s.Container{
		Image: s.image, Ports: []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeNodePort}},
		Requests: map[string]string{"cpu": k8s.None, "memory": k8s.None, "ephemeral-storage": k8s.None},
		Limits:   map[string]string{"cpu": k8s.None, "memory": k8s.None, "ephemeral-storage": k8s.None},
		Security: k8s.Security{AllowRoot: true, AllowPrivilegeEscalation: true, WritableRoot: true},
		Startup:  &k8s.Probe{Off: true},
	}})
	i.up(t)
	at := door{t, i.at(t, "one", "8080/TCP")}
	want(t, "writing to the root", func() string { return at.ask("/write", "path", "/x") }, "no: open /x: permission denied")
	pods, err := s.Typed.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: i.selector()})
	ok(t, err)
	for _, pod := range pods.Items {
		if r := pod.Spec.Containers[0].Resources; len(r.Limits)+len(r.Requests) > 0 {
			t.Errorf("resources = %v", r)
		}
	}
	i.down(t)
}
