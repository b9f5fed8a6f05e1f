//go:build cluster

// Package e2e_test puts Mayfly onto a cluster with Knative as an operator does,
// and uses it as players do: over the wire, through the gateway and past it. It
// takes the cluster from KUBECONFIG, REGISTRY and INGRESS.
package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

const (
	root = "../.."
	// upWithin is how long a loaded machine may take to build and start all.
	upWithin = 15 * time.Minute
	// ingressPort is where Knative's ingress takes calls from inside the cluster.
	ingressPort = "80"
	// functions is how many there are, the gateway among them.
	functions = 14
	component = "app.kubernetes.io/component=function"
	nameLabel = "app.kubernetes.io/name"
)

// An installation is Mayfly on the cluster.
type installation struct {
	*clustertest.Cluster

	namespace string
	ingress   string       // host:port of the ingress for calls inside the cluster
	plain     *http.Client // over HTTP/1.1
}

// install runs what `make up` runs, and `make down` after the test.
func install(t testing.TB) *installation {
	t.Helper()
	c := clustertest.New(t)
	i := &installation{Cluster: c, namespace: "mayfly-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() { deploy(t, "down", "--namespace", i.namespace) })
	deploy(t, append([]string{
		"up", "--namespace", i.namespace, "--registry", clustertest.Registry(t) + "/mayfly-test",
	}, settings(c)...)...)
	i.ingress = i.findIngress(t)
	i.plain = &http.Client{Transport: &http.Transport{DialContext: i.dial}}
	return i
}

// settings are those of the tests' installations.
func settings(c *clustertest.Cluster) []string {
	return []string{
		"--set", "OCI_INSECURE=true", "--set", "INSTANCE_HOSTNAME=games.example",
		"--set", "INGRESS_NAMESPACE=" + c.IngressController().Namespace,
	}
}

func deploy(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), upWithin)
	defer cancel()
	began := time.Now()
	command := exec.CommandContext(ctx, "go", append([]string{"run", "./deploy/cmd/deploy"}, args...)...)
	command.Dir = root
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	out, err := command.CombinedOutput()
	t.Logf("%s, in %v:\n%s", args[0], time.Since(began).Round(time.Second), out)
	if err != nil {
		t.Fatalf("%s: %v", args[0], err)
	}
}

// findIngress follows the name of the gateway to what answers it. Names of the
// cluster are not known here.
func (i *installation) findIngress(t testing.TB) string {
	t.Helper()
	gateway, err := i.Typed.CoreV1().Services(i.namespace).Get(t.Context(), "gateway", metav1.GetOptions{})
	check(t, err)
	name, namespace, _ := strings.Cut(gateway.Spec.ExternalName, ".")
	namespace, _, _ = strings.Cut(namespace, ".")
	service, err := i.Typed.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	check(t, err)
	return net.JoinHostPort(service.Spec.ClusterIP, ingressPort)
}

// url is the address of a function inside the cluster.
func (i *installation) url(function string) string {
	return "http://" + function + "." + i.namespace + ".svc.cluster.local"
}

// dial connects to the ingress, whatever name is asked for.
func (i *installation) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", i.ingress)
}

// modern is a client over HTTP/2 without TLS.
func (i *installation) modern() *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{DialContext: i.dial, Protocols: protocols}}
}

// pods are the functions of which a pod runs, sorted.
func (i *installation) pods(t testing.TB) []string {
	t.Helper()
	list, err := i.Typed.CoreV1().Pods(i.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: component})
	check(t, err)
	var names []string
	for _, pod := range list.Items {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			names = append(names, pod.Labels[nameLabel])
		}
	}
	slices.Sort(names)
	return names
}

// schedule is that of the fast tick.
func (i *installation) schedule(t testing.TB) string {
	t.Helper()
	tick, err := i.Objects.Resource(schema.GroupVersionResource{Group: "sources.knative.dev", Version: "v1", Resource: "pingsources"}).
		Namespace(i.namespace).Get(t.Context(), "expire", metav1.GetOptions{})
	check(t, err)
	spec, _ := tick.Object["spec"].(map[string]any)
	return fmt.Sprint(spec["schedule"])
}

// instances are those of a challenge of which objects are there.
func (i *installation) instances(t testing.TB, challenge string) []string {
	t.Helper()
	list, err := i.Typed.CoreV1().ConfigMaps(i.namespace+"-instances").
		List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelChallenge + "=" + challenge})
	check(t, err)
	var identities []string
	for _, object := range list.Items {
		identities = append(identities, object.Labels[kubernetes.LabelIdentity])
	}
	return identities
}

// serves tells whether an Ingress serves an instance by that name.
func (i *installation) serves(ctx context.Context, host string) (bool, error) {
	list, err := i.Typed.NetworkingV1().Ingresses(i.namespace+"-instances").List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list the Ingresses: %w", err)
	}
	return slices.ContainsFunc(list.Items, func(o networkingv1.Ingress) bool {
		return len(o.Spec.Rules) > 0 && o.Spec.Rules[0].Host == host
	}), nil
}

// pushExample builds the image of an example, and pushes its manifest with the
// image's name in it.
func pushExample(t testing.TB, name string) string {
	t.Helper()
	examples := filepath.Join(root, "shared", "sdk", "examples", name)
	image := clustertest.Image(t, name, map[string][]byte{"program": clustertest.Program(t, filepath.Join(examples, "image"))})
	text, err := os.ReadFile(filepath.Join(examples, "scenario", "mayfly.yaml"))
	check(t, err)
	changed := strings.ReplaceAll(string(text), "registry.example/ctf/"+name+":1", image)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "mayfly.yaml"), []byte(changed), 0o600))
	registry := clustertest.Registry(t)
	reference := registry + "/mayfly-test/" + name + ":1"
	_, err = scenario.Push(t.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{registry}})
	check(t, err)
	return reference
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
