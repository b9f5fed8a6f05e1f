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
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

const (
	root = "../.."
	// upWithin is how long a loaded machine may take to build and start all.
	upWithin = 15 * time.Minute
	// forgottenWithin is how long Knative may take to collect what it made.
	forgottenWithin = 2 * time.Minute
	// ingressPort is where Knative's ingress takes calls from inside the cluster.
	ingressPort = "80"
	// functions is how many there are, the gateway among them.
	functions = 14
	component = "app.kubernetes.io/component=function"
	nameLabel = "app.kubernetes.io/name"
	// domain is that of the instances, which is in no DNS.
	domain = "games.example"
)

// An installation is Mayfly on the cluster.
type installation struct {
	*clustertest.Cluster

	namespace string
	token     string       // that callers must show, if it is not empty
	ingress   string       // host:port of the ingress for calls inside the cluster
	plain     *http.Client // over HTTP/1.1
	isDown    bool         // its test has taken it off the cluster
}

// install runs what `make up` runs, and `make down` after the test.
func install(t testing.TB) *installation {
	t.Helper()
	i := prepare(t)
	i.up(t)
	return i
}

// prepare names an installation, and takes it off the cluster after the test,
// with all that is alive then.
func prepare(t testing.TB) *installation {
	t.Helper()
	i := &installation{Cluster: clustertest.New(t), namespace: "mayfly-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), upWithin)
		defer cancel()
		if there, err := i.Mentioning(ctx, i.namespace); !t.Failed() && !i.isDown && len(there) == 0 {
			t.Errorf("what can't be found now is not missed later: %v", err)
		}
		i.deploy(t, "down", "--namespace", i.namespace)
		clustertest.Eventually(t, forgottenWithin, "no object of the cluster, of any kind, knows of the installation", func() error {
			left, err := i.Mentioning(ctx, i.namespace)
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%d do: %s", len(left), strings.Join(left, ", "))
			}
			return err
		})
	})
	return i
}

// up puts the installation onto the cluster, with these flags besides.
func (i *installation) up(t testing.TB, flags ...string) {
	t.Helper()
	i.buildOnce(t)
	i.deploy(t, slices.Concat([]string{
		"up", "--namespace", i.namespace, "--registry", clustertest.Registry(t) + "/mayfly-test",
	}, settings(i.Cluster), flags)...)
	i.reach(t)
}

// reach finds the way to an installation, and waits until it is open: what is
// ready is not yet known to the ingress.
func (i *installation) reach(t testing.TB) {
	t.Helper()
	i.ingress = i.findIngress(t)
	i.plain = &http.Client{Transport: &http.Transport{DialContext: i.dial}}
	clustertest.Eventually(t, turned, "the ingress leads to every function", func() error {
		for _, name := range i.names(t) {
			if _, err := i.version(t.Context(), name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

// built keeps installations that begin together from building the same programs
// at once, into the same files.
var built sync.Once

func (i *installation) buildOnce(t testing.TB) {
	t.Helper()
	built.Do(func() { i.deploy(t, "images", "--registry", clustertest.Registry(t)+"/mayfly-test") })
}

// settings are those of the tests' installations.
func settings(c *clustertest.Cluster) []string {
	return []string{
		"--set", "OCI_INSECURE=true", "--set", "INSTANCE_HOSTNAME=" + domain,
		"--set", "INGRESS_NAMESPACE=" + c.IngressController().Namespace,
	}
}

func (i *installation) deploy(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), upWithin)
	defer cancel()
	began := time.Now()
	command := exec.CommandContext(ctx, "go", append([]string{"run", "./deploy/cmd/deploy"}, args...)...)
	command.Dir, command.Env = root, append(os.Environ(), "MAYFLY_TOKEN="+i.token)
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
func (i *installation) url(function string) string { return "http://" + i.host(function) }

func (i *installation) host(function string) string {
	return function + "." + i.namespace + ".svc.cluster.local"
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
	return i.scheduleOf(t, "expire")
}

func (i *installation) scheduleOf(t testing.TB, name string) string {
	t.Helper()
	live, err := i.ticks().Get(t.Context(), name, metav1.GetOptions{})
	check(t, err)
	var tick sourcesv1.PingSource
	check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &tick))
	return tick.Spec.Schedule
}

// reschedule gives a tick another schedule.
func (i *installation) reschedule(t testing.TB, name, schedule string) {
	t.Helper()
	patch := `{"spec":{"schedule":"` + schedule + `"}}`
	_, err := i.ticks().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	check(t, err)
}

func (i *installation) ticks() dynamic.ResourceInterface {
	return i.of(sourcesv1.SchemeGroupVersion.WithResource("pingsources"))
}

// of is all of a kind where the functions are.
func (i *installation) of(kind schema.GroupVersionResource) dynamic.ResourceInterface {
	return i.Objects.Resource(kind).Namespace(i.namespace)
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

// pushExample builds an example that needs no settings, and pushes it.
func pushExample(t testing.TB, name string) string {
	t.Helper()
	return push(t, name, example(t, name).Scenario)
}

// example builds one.
func example(t testing.TB, name string) clustertest.Example {
	t.Helper()
	return clustertest.NewExample(t, filepath.Join(root, "shared", "sdk", "examples"), name, domain)
}

// pushManifest pushes a manifest, and returns its reference.
func pushManifest(t testing.TB, name, manifest string) string {
	t.Helper()
	return push(t, name, map[string][]byte{"mayfly.yaml": []byte(manifest)})
}

// push pushes the files of a scenario, and returns its reference.
func push(t testing.TB, name string, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for file, content := range files {
		check(t, os.WriteFile(filepath.Join(dir, file), content, 0o700)) //nolint:gosec // It may be a program.
	}
	registry := clustertest.Registry(t)
	reference := registry + "/mayfly-test/" + name + ":1"
	_, err := scenario.Push(t.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{registry}})
	check(t, err)
	return reference
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
