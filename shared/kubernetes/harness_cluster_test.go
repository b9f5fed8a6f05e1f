//go:build cluster

package kubernetes_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"oras.land/oras-go/v2/registry/remote"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

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
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("these tests need a cluster: set KUBECONFIG")
	}
	cluster, err := kubernetes.Connect("")
	ok(t, err)
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	ok(t, err)
	config.QPS = -1
	objects, err := dynamic.NewForConfig(config)
	ok(t, err)
	b := &bench{t: t, objects: objects, identity: random(), namespace: "test-" + random()}
	space := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": b.namespace},
	}}
	_, err = b.at("namespaces", "").Create(t.Context(), space, metav1.CreateOptions{})
	ok(t, err)
	t.Cleanup(func() {
		ok(t, b.at("namespaces", "").Delete(context.Background(), b.namespace, metav1.DeleteOptions{}))
	})
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
		"ingresses": "networking.k8s.io", "roles": "rbac.authorization.k8s.io", "rolebindings": "rbac.authorization.k8s.io",
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

// image builds the test's program and pushes it to the cluster's registry.
func image(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	ok(t, err)
	var raw, layer bytes.Buffer
	archive := tar.NewWriter(&raw)
	ok(t, archive.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(program))}))
	_, err = archive.Write(program)
	ok(t, err)
	ok(t, archive.Close())
	packed := gzip.NewWriter(&layer)
	_, err = packed.Write(raw.Bytes())
	ok(t, err)
	ok(t, packed.Close())

	host := cmp.Or(os.Getenv("MAYFLY_TEST_REGISTRY"), "10.99.0.1:5000")
	repository, err := remote.NewRepository(host + "/mayfly/program")
	ok(t, err)
	repository.PlainHTTP = true
	push := func(mediaType string, content []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
		ok(t, repository.Push(t.Context(), d, bytes.NewReader(content)))
		return d
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/program"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(raw.Bytes())}},
	})
	ok(t, err)
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	manifest.SchemaVersion = 2
	manifest.Config = push(ocispec.MediaTypeImageConfig, config)
	manifest.Layers = []ocispec.Descriptor{push(ocispec.MediaTypeImageLayerGzip, layer.Bytes())}
	body, err := json.Marshal(manifest)
	ok(t, err)
	return host + "/mayfly/program@" + push(ocispec.MediaTypeImageManifest, body).Digest.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}
