//go:build cluster

package kubernetes_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// TestMain is a worker when it is told to, as the binary of a real service is.
func TestMain(m *testing.M) {
	opens := map[string]engine.Open{"worker": openManifest, "objects": openObjects}
	if len(os.Args) == 3 && opens[os.Args[1]] != nil {
		cluster, err := kubernetes.Connect("")
		if err != nil {
			panic(err)
		}
		options := kubernetes.Options{Cluster: cluster, Namespace: os.Args[2], ReadyTimeout: time.Minute}
		os.Exit(engine.Work(context.Background(), engine.Providers{
			kubernetes.Package: func() (plugin.Provider, error) { return kubernetes.NewProvider(options) },
		}, opens[os.Args[1]]))
	}
	os.Exit(m.Run())
}

// newEngine starts an engine over the scenario in testdata/manifest, whose
// worker opens it in one of the ways of [TestMain].
func newEngine(t *testing.T, opens, namespace, kubeconfig string) *engine.Engine {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	e, err := engine.New(t.Context(), engine.Options{
		Source: folder("testdata/manifest"), WorkerCommand: []string{self, opens, namespace}, Workers: 1,
		WorkerEnv: []string{"KUBECONFIG=" + kubeconfig}, TargetNamespace: namespace,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, e.Close()) })
	return e
}

func newLedger() *engine.Ledger {
	l := &engine.Ledger{}
	l.Extend(time.Now().Add(time.Hour))
	return l
}

// pushed is the image of testdata/program, made once.
var pushed struct {
	sync.Once
	image string
}

// image returns the image of testdata/program.
func image(t *testing.T) string {
	t.Helper()
	pushed.Do(func() {
		pushed.image = clustertest.Image(t, "program", map[string][]byte{"program": clustertest.Program(t, "testdata/program")})
	})
	return pushed.image
}

// nothingLeft fails if anything of the instance stays, of whatever kind the
// cluster has. What the cluster derives from our objects goes a moment later.
func nothingLeft(t *testing.T, identity ctf.Identity) {
	t.Helper()
	cluster, selector := clustertest.New(t), kubernetes.LabelIdentity+"="+string(identity)
	for _, name := range cluster.List(selector) {
		if !strings.HasPrefix(name, "Endpoint") {
			t.Errorf("left: %s", name)
		}
	}
	cluster.WantNothing(selector)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	clustertest.Eventually(t, time.Minute, what, func() error {
		if !condition() {
			return errors.New("not yet")
		}
		return nil
	})
}

// A bench is a namespace of a real cluster, with one instance's provider.
type bench struct {
	t         *testing.T
	provider  *kubernetes.Provider
	objects   dynamic.Interface
	identity  string
	namespace string
	options   kubernetes.Options
}

func newBench(t *testing.T, change ...func(*kubernetes.Options)) *bench {
	t.Helper()
	cluster, err := kubernetes.Connect("")
	ok(t, err)
	site := clustertest.New(t)
	b := &bench{t: t, objects: site.Objects, identity: random(), namespace: site.Namespace()}
	b.options = kubernetes.Options{Cluster: cluster, Namespace: b.namespace, ReadyTimeout: time.Minute}
	for _, c := range change {
		c(&b.options)
	}
	b.provider = b.newProvider()
	t.Cleanup(func() {
		ok(t, b.provider.Sweep(context.Background(), ctf.Identity(b.identity)))
		ok(t, b.provider.Close())
	})
	return b
}

func (b *bench) newProvider() *kubernetes.Provider {
	p, err := kubernetes.NewProvider(b.options)
	ok(b.t, err)
	p.Bind(ctf.InstanceKey{
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "web/one"}, Identity: ctf.Identity(b.identity),
	})
	return p
}

func (b *bench) at(plural, namespace string) dynamic.ResourceInterface {
	group := map[string]string{
		"deployments": "apps", "statefulsets": "apps", "jobs": "batch", "networkpolicies": "networking.k8s.io",
		"ingresses": "networking.k8s.io", "poddisruptionbudgets": "policy", "roles": "rbac.authorization.k8s.io", "rolebindings": "rbac.authorization.k8s.io",
		"customresourcedefinitions": "apiextensions.k8s.io", "wands": "mayfly.test",
	}[plural]
	r := b.objects.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural})
	if namespace == "" {
		return r
	}
	return r.Namespace(namespace)
}

// get returns a live object, nil if there is none.
func (b *bench) get(plural, name string) *unstructured.Unstructured {
	b.t.Helper()
	live, err := b.at(plural, b.namespace).Get(b.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return live
}

func (b *bench) urn(token, name string) resource.URN {
	return resource.URN("urn:pulumi:" + b.identity + "::project::kubernetes:" + token + "::" + name)
}

// inputs reads YAML and has it checked.
func (b *bench) inputs(urn resource.URN, text string) resource.PropertyMap {
	b.t.Helper()
	checked, err := b.provider.Check(b.t.Context(), plugin.CheckRequest{URN: urn, News: properties(b.t, text)})
	ok(b.t, err)
	return checked.Properties
}

type made struct {
	urn     resource.URN
	id      resource.ID
	inputs  resource.PropertyMap
	outputs resource.PropertyMap
}

func (b *bench) tryCreate(token, name, text string) (made, error) {
	b.t.Helper()
	m := made{urn: b.urn(token, name)}
	m.inputs = b.inputs(m.urn, text)
	r, err := b.provider.Create(b.t.Context(), plugin.CreateRequest{URN: m.urn, Properties: m.inputs})
	m.id, m.outputs = r.ID, r.Properties
	return m, err
}

func (b *bench) create(token, name, text string) made {
	b.t.Helper()
	m, err := b.tryCreate(token, name, text)
	ok(b.t, err)
	return m
}

func (b *bench) diff(m made, news resource.PropertyMap) plugin.DiffResponse {
	b.t.Helper()
	d, err := b.provider.Diff(b.t.Context(), plugin.DiffRequest{
		URN: m.urn, ID: m.id, OldInputs: m.inputs, OldOutputs: m.outputs, NewInputs: news,
	})
	ok(b.t, err)
	return d
}

func (b *bench) update(m made, news resource.PropertyMap) made {
	b.t.Helper()
	r, err := b.provider.Update(b.t.Context(), plugin.UpdateRequest{
		URN: m.urn, ID: m.id, OldInputs: m.inputs, OldOutputs: m.outputs, NewInputs: news,
	})
	ok(b.t, err)
	m.inputs, m.outputs = news, r.Properties
	return m
}

func (b *bench) delete(m made) {
	b.t.Helper()
	_, err := b.provider.Delete(b.t.Context(), plugin.DeleteRequest{URN: m.urn, ID: m.id, Inputs: m.inputs, Outputs: m.outputs})
	ok(b.t, err)
}

func properties(t *testing.T, text string) resource.PropertyMap {
	t.Helper()
	var fields map[string]any
	ok(t, yaml.UnmarshalStrict([]byte(text), &fields))
	return resource.NewPropertyMapFromMap(fields)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func random() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}
