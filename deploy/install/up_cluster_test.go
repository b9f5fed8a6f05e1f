//go:build cluster

package install_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/deploy/image"
	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// patience is how long a loaded machine may take.
const patience = 10 * time.Minute

// A bench is a cluster, and a name that nobody else uses.
type bench struct {
	*testing.T
	cluster *install.Cluster
	objects dynamic.Interface
	options install.Options
}

func newBench(t *testing.T) *bench {
	t.Helper()
	config := cluster(t)
	connected, err := install.NewCluster(config)
	check(t, err)
	objects, err := dynamic.NewForConfig(config)
	check(t, err)
	o := options("local")
	o.Namespace = "mayfly-" + strings.ToLower(rand.Text()[:8])
	b := &bench{T: t, cluster: connected, objects: objects, options: o}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := connected.Down(ctx, b.options, t.Output()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func cluster(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatalf("set KUBECONFIG: %v", err)
	}
	return config
}

// pushed builds the program that stands for the functions, packs the
// redis-server of this machine, and returns where both are.
func (b *bench) pushed() map[string]string {
	b.Helper()
	registry := os.Getenv("REGISTRY")
	if registry == "" {
		b.Fatal("set REGISTRY to one that the cluster reaches")
	}
	cache, err := os.UserCacheDir()
	check(b, err)
	packages, err := image.Fetch(b.Context(), filepath.Join(cache, "mayfly", "packages"), []string{image.Mirror, image.Snapshot}, []string{runtime.GOARCH})
	check(b, err)
	program := filepath.Join(b.TempDir(), "hello")
	check(b, image.Build(b.Context(), root, "deploy/install/testdata/hello", runtime.GOARCH, program, b.Output()))
	to := image.Repository{Name: registry + "/test", Insecure: true}
	push := func(plan image.Plan) string {
		packed, err := image.Pack(plan, packages)
		check(b, err)
		reference, err := to.Push(b.Context(), plan.Name, "test", map[string]v1.Image{runtime.GOARCH: packed})
		check(b, err)
		return reference
	}
	hello := push(image.Plan{Name: "hello", Program: program, Arch: runtime.GOARCH})
	server, libraries, err := image.FromMachine(b.Context(), "redis-server")
	check(b, err)
	client, more, err := image.FromMachine(b.Context(), "redis-cli")
	check(b, err)
	extra := append(append(libraries, more...), image.File{Name: "redis-cli", Mode: 0o755, Source: client})
	redis := push(image.Plan{Name: "redis-server", Program: server, Arch: runtime.GOARCH, Extra: extra})
	return map[string]string{"api": hello, "engine": hello, "redis": redis}
}

// up returns what was said.
func (b *bench) up() string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	err := b.cluster.Up(ctx, b.options, &out)
	b.Log(out.String())
	check(b, err)
	return out.String()
}

func (b *bench) at(group, version, plural string) dynamic.ResourceInterface {
	return b.objects.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).Namespace(b.options.Namespace)
}

func (b *bench) namespace(name string, labels map[string]string) {
	b.Helper()
	space := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	space.SetName(name)
	space.SetLabels(labels)
	_, err := b.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(b.Context(), space, metav1.CreateOptions{})
	check(b, err)
}

// The API server and Knative's webhooks take every object of both overlays.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{b.options.Namespace, b.options.Namespace + "-instances"} {
		b.namespace(name, map[string]string{"app.kubernetes.io/part-of": "mayfly"})
	}
	for _, account := range []string{"api", "engine"} { // Knative tries a pod
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount"}}
		object.SetName(account)
		_, err := b.at("", "v1", "serviceaccounts").Create(t.Context(), object, metav1.CreateOptions{})
		check(t, err)
	}
	for _, overlay := range []string{"local", "production"} {
		b.options.Overlay = overlay
		if err := b.cluster.DryRun(t.Context(), b.options); err != nil {
			t.Errorf("%s: %v", overlay, err)
		}
	}
}

// From nothing to running, again without a change, less, and to nothing.
func TestUpAndDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.options.Images = b.pushed()
	said := b.up()
	for verb := range functions(t, b.options) {
		if !strings.Contains(said, "answers  "+verb+",") {
			t.Errorf("%s did not answer", verb)
		}
	}
	if said := b.up(); !strings.Contains(said, " 0 of them changed") {
		t.Error("a second time changes something")
	}

	tick := b.at("sources.knative.dev", "v1", "pingsources")
	_, err := tick.Patch(t.Context(), "expire", types.MergePatchType, []byte(`{"spec":{"schedule":"*/10 * * * * *"}}`), metav1.PatchOptions{})
	check(t, err)
	keys, err := b.at("", "v1", "secrets").Get(t.Context(), "keys", metav1.GetOptions{})
	check(t, err)
	b.options.Config = less(t, "renew-instance")
	b.options.Settings = map[string]string{"LOG_LEVEL": "debug"}
	if said := b.up(); !strings.Contains(said, "removed  Service "+b.options.Namespace+"/renew-instance") {
		t.Error("what the configuration has no more is not removed")
	}
	b.wantSettings(2)
	if _, err := b.at("serving.knative.dev", "v1", "services").Get(t.Context(), "renew-instance", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("renew-instance is still there: %v", err)
	}
	live, err := tick.Get(t.Context(), "expire", metav1.GetOptions{})
	check(t, err)
	var now sourcesv1.PingSource
	check(t, kruntime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &now))
	if now.Spec.Schedule != "*/10 * * * * *" {
		t.Errorf("the tick was switched to %q", now.Spec.Schedule)
	}
	again, err := b.at("", "v1", "secrets").Get(t.Context(), "keys", metav1.GetOptions{})
	check(t, err)
	if again.GetResourceVersion() != keys.GetResourceVersion() {
		t.Error("the keys were changed: nothing that is stored can be read any more")
	}

	check(t, b.at("serving.knative.dev", "v1", "revisions").DeleteCollection(t.Context(), metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: "serving.knative.dev/configurationGeneration=1"}))
	b.up()
	b.wantSettings(1)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 {
		check(t, b.cluster.Down(ctx, b.options, t.Output()))
	}
}

// wantSettings looks whether the settings are there of every revision, and no
// more.
func (b *bench) wantSettings(number int) {
	b.Helper()
	found, err := b.at("", "v1", "configmaps").List(b.Context(), metav1.ListOptions{})
	check(b, err)
	there := map[string]bool{}
	for _, item := range found.Items {
		if strings.HasPrefix(item.GetName(), "settings-") {
			there[item.GetName()] = true
		}
	}
	revisions, err := b.at("serving.knative.dev", "v1", "revisions").List(b.Context(), metav1.ListOptions{})
	check(b, err)
	for _, item := range revisions.Items {
		var revision servingv1.Revision
		check(b, kruntime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &revision))
		if settings := revision.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name; !there[settings] {
			b.Errorf("%s can't start another pod: %s is gone", revision.Name, settings)
		}
	}
	if len(there) != number {
		b.Errorf("there are the settings %v, want %d", there, number)
	}
}

// less copies the configuration without one function.
func less(t *testing.T, verb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "config")
	check(t, os.CopyFS(dir, os.DirFS(filepath.Join(root, "config"))))
	list := filepath.Join(dir, "base/functions/kustomization.yaml")
	text, err := os.ReadFile(list)
	check(t, err)
	check(t, os.WriteFile(list, bytes.ReplaceAll(text, []byte("  - "+verb+".yaml\n"), nil), 0o600))
	return dir
}

// What is somebody else's is left alone, and nothing is public without a token.
func TestUpRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.options.Public = true
	if err := b.cluster.Up(t.Context(), b.options, t.Output()); !errors.Is(err, install.ErrNoToken) {
		t.Errorf("public without a token: %v", err)
	}
	b.options.Public = false
	theirs := b.options
	theirs.Namespace += "-theirs"
	b.namespace(theirs.Namespace, nil)
	for what, err := range map[string]error{
		"up":   b.cluster.Up(t.Context(), theirs, t.Output()),
		"down": b.cluster.Down(t.Context(), theirs, t.Output()),
	} {
		if err == nil || !strings.Contains(err.Error(), "not Mayfly's") {
			t.Errorf("%s in a namespace of somebody else: %v", what, err)
		}
	}
	check(t, b.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		Delete(t.Context(), theirs.Namespace, metav1.DeleteOptions{}))
}
