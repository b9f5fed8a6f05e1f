//go:build cluster

package kubernetes_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// The life of one object: made, found the same, changed by hand and mended,
// changed by its author, deleted by hand and told, deleted.
func TestObject(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.create("core/v1:ConfigMap", "settings", "data: {a: one, b: two}")
	name := "settings-" + b.identity
	live := b.get("configmaps", name)
	if live == nil || string(m.id) != b.namespace+"/"+name {
		t.Fatalf("made %q, not %s/%s", m.id, b.namespace, name)
	}
	if live.GetLabels()[kubernetes.LabelIdentity] != b.identity || live.GetLabels()[kubernetes.LabelTenant] != "default" ||
		!strings.HasPrefix(live.GetLabels()[kubernetes.LabelChallenge], "h-") || live.GetAnnotations()["mayfly.dev/challenge"] != "web/one" {
		t.Errorf("labels %v, annotations %v", live.GetLabels(), live.GetAnnotations())
	}
	owner := b.get("configmaps", "mayfly-"+b.identity)
	if refs := live.GetOwnerReferences(); len(refs) != 1 || refs[0].UID != owner.GetUID() {
		t.Errorf("owned by %v", refs)
	}
	if d := b.diff(m, m.inputs); d.Changes != plugin.DiffNone {
		t.Errorf("unchanged: %+v", d)
	}

	_, err := b.at("configmaps", b.namespace).Patch(t.Context(), name, types.MergePatchType,
		[]byte(`{"data":{"a":"changed","c":"kept"}}`), metav1.PatchOptions{FieldManager: "hand"})
	ok(t, err)
	if d := b.diff(m, m.inputs); d.Changes != plugin.DiffSome || d.Replace() {
		t.Errorf("changed by hand: %+v", d)
	}
	news := b.inputs(m.urn, "data: {a: one}")
	m = b.update(m, news)
	data, _, _ := unstructured.NestedStringMap(b.get("configmaps", name).Object, "data")
	if len(data) != 2 || data["a"] != "one" || data["c"] != "kept" {
		t.Errorf("after the update: %v", data)
	}

	ok(t, b.at("configmaps", b.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
	if d := b.diff(m, m.inputs); !d.Replace() || !d.DeleteBeforeReplace {
		t.Errorf("deleted by hand: %+v", d)
	}
	b.delete(m)
	m = b.create("core/v1:ConfigMap", "settings", "data: {a: one}")
	b.delete(m)
	if b.get("configmaps", name) != nil {
		t.Error("deleted, and there")
	}
	b.delete(m)
}

// An interrupted Create is found by inputs alone, and only if it is ours.
func TestReadWithoutID(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.create("core/v1:ConfigMap", "settings", "data: {a: one}")
	r, err := b.provider.Read(t.Context(), plugin.ReadRequest{URN: m.urn, Inputs: m.inputs})
	ok(t, err)
	if r.ID != m.id || !r.Outputs.DeepEquals(m.outputs) {
		t.Errorf("found %q %v", r.ID, r.Outputs)
	}
	again := b.create("core/v1:ConfigMap", "settings", "data: {a: one}")
	if again.outputs["metadata"].ObjectValue()["uid"] != m.outputs["metadata"].ObjectValue()["uid"] {
		t.Error("made twice")
	}
	b.delete(m)
	r, err = b.provider.Read(t.Context(), plugin.ReadRequest{URN: m.urn, Inputs: m.inputs})
	ok(t, err)
	if r.ID != "" {
		t.Errorf("found %q", r.ID)
	}
}

// Objects of others are neither taken over, nor read, nor deleted.
func TestForeign(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	foreign := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "theirs"}, "data": map[string]any{"a": "one"},
	}}
	_, err := b.at("configmaps", b.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
	ok(t, err)
	_, err = b.tryCreate("core/v1:ConfigMap", "x", "metadata: {name: theirs}\ndata: {a: one}")
	if err == nil || !strings.Contains(err.Error(), "does not belong to this instance") {
		t.Errorf("created over it: %v", err)
	}
	urn := b.urn("core/v1:ConfigMap", "x")
	id := resource.ID(b.namespace + "/theirs")
	r, err := b.provider.Read(t.Context(), plugin.ReadRequest{URN: urn, ID: id})
	ok(t, err)
	if r.ID != "" {
		t.Error("read it")
	}
	_, err = b.provider.Delete(t.Context(), plugin.DeleteRequest{URN: urn, ID: id})
	ok(t, err)
	if b.get("configmaps", "theirs") == nil {
		t.Error("deleted it")
	}
}

// What can't be changed is replaced, the old one first.
func TestImmutable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	spare := b.create("core/v1:Service", "spare", "spec: {ports: [{port: 80}]}")
	address := spare.outputs["spec"].ObjectValue()["clusterIP"].StringValue()
	b.delete(spare)
	cases := []struct{ token, name, before, after string }{
		{"core/v1:ConfigMap", "fixed", "immutable: true\ndata: {a: one}", "immutable: true\ndata: {a: two}"},
		{"core/v1:Secret", "kind", "type: Opaque\nstringData: {username: u, password: p}",
			"type: kubernetes.io/basic-auth\nstringData: {username: u, password: p}"},
		{"core/v1:Service", "ip", "spec: {clusterIP: None, selector: {app: x}, ports: [{port: 80}]}", "spec: {clusterIP: " + address + ", selector: {app: x}, ports: [{port: 80}]}"},
		{"core/v1:PersistentVolumeClaim", "claim",
			"spec: {storageClassName: none, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}",
			"spec: {storageClassName: none, accessModes: [ReadWriteMany], resources: {requests: {storage: 1Mi}}}"},
		{"core/v1:ConfigMap", "name", "metadata: {name: one}", "metadata: {name: two}"},
	}
	for _, c := range cases {
		m := b.create(c.token, c.name, c.before)
		if d := b.diff(m, m.inputs); d.Changes != plugin.DiffNone {
			t.Errorf("%s unchanged: %+v", c.name, d)
		}
		news := b.inputs(m.urn, c.after)
		if d := b.diff(m, news); !d.Replace() || !d.DeleteBeforeReplace {
			t.Errorf("%s: %+v", c.name, d)
		}
		b.delete(m)
		_, err := b.provider.Create(t.Context(), plugin.CreateRequest{URN: m.urn, Properties: news})
		ok(t, err)
	}
}

// The text of a Secret is hidden in the outputs, and a key that is left out
// goes.
func TestSecret(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	urn := b.urn("core/v1:Secret", "flag")
	inputs := b.inputs(urn, "metadata: {name: flag}\nstringData: {a: x, b: z}")
	inputs["stringData"] = resource.MakeSecret(inputs["stringData"])
	r, err := b.provider.Create(t.Context(), plugin.CreateRequest{URN: urn, Properties: inputs})
	ok(t, err)
	if !r.Properties["data"].IsSecret() || !r.Properties["stringData"].IsSecret() {
		t.Errorf("in plain sight: %v", r.Properties)
	}
	m := made{urn, r.ID, inputs, r.Properties}
	if d := b.diff(m, inputs); d.Changes != plugin.DiffNone {
		t.Errorf("unchanged: %+v", d)
	}
	b.update(m, b.inputs(urn, "metadata: {name: flag}\nstringData: {a: x}"))
	data, _, _ := unstructured.NestedStringMap(b.get("secrets", "flag").Object, "data")
	if len(data) != 1 || data["a"] != "eA==" {
		t.Errorf("after the update: %v", data)
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.create("core/v1:Service", "door", "spec: {type: NodePort, selector: {app: x}, ports: [{port: 80}]}")
	port := m.outputs["spec"].ObjectValue()["ports"].ArrayValue()[0].ObjectValue()["nodePort"]
	if !port.IsNumber() || port.NumberValue() < 30000 {
		t.Errorf("nodePort %v", port)
	}
	if d := b.diff(m, m.inputs); d.Changes != plugin.DiffNone {
		t.Errorf("unchanged: %+v", d)
	}
	b.options.ReadyTimeout = time.Second
	b.provider = b.newProvider()
	lb, err := b.tryCreate("core/v1:Service", "lb", "spec: {type: LoadBalancer, selector: {app: x}, ports: [{port: 80}]}")
	if _, isInit := errors.AsType[*plugin.InitError](err); !isInit || lb.id == "" {
		t.Fatalf("a load balancer that nobody provides: %v", err)
	}
	contains(t, err.Error(), "Service "+b.namespace+"/lb-"+b.identity, "no address yet")
}

// Preview asks the API server and changes nothing.
func TestPreview(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	preview := func(urn resource.URN, in resource.PropertyMap) (resource.PropertyMap, error) {
		r, err := b.provider.Create(t.Context(), plugin.CreateRequest{URN: urn, Properties: in, Preview: true})
		return r.Properties, err
	}
	urn := b.urn("apps/v1:Deployment", "web")
	good := "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}"
	out, err := preview(urn, b.inputs(urn, good))
	ok(t, err)
	if !out["status"].IsComputed() || out["spec"].ObjectValue()["replicas"].NumberValue() != 1 {
		t.Errorf("previewed %v", out)
	}
	_, err = preview(urn, b.inputs(urn, strings.Replace(good, "a: b}}, template", "a: c}}, template", 1)))
	if err == nil || !strings.Contains(err.Error(), "selector") {
		t.Errorf("an invalid object: %v", err)
	}
	unknown := b.inputs(urn, good)
	unknown["spec"] = resource.MakeComputed(resource.NewProperty(""))
	out, err = preview(urn, unknown)
	ok(t, err)
	if !out["spec"].IsComputed() {
		t.Errorf("previewed %v", out)
	}
	urn = b.urn("core/v1:ConfigMap", "inner")
	_, err = preview(urn, b.inputs(urn, "metadata: {namespace: "+b.identity+"}"))
	ok(t, err)
	for _, plural := range []string{"deployments", "configmaps"} {
		list, err := b.at(plural, b.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelIdentity})
		ok(t, err)
		if len(list.Items) > 0 {
			t.Errorf("made %s", plural)
		}
	}
}

// A sweep needs to know no object, and takes what comes late too.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.create("core/v1:ConfigMap", "a", "data: {a: one}")
	b.create("core/v1:Service", "b", "spec: {ports: [{port: 80}]}")
	b.create("core/v1:Namespace", "own", "metadata: {name: "+b.identity+"}")
	b.create("core/v1:ConfigMap", "inside", "metadata: {namespace: "+b.identity+"}")
	ok(t, b.newProvider().Sweep(t.Context(), ctf.Identity(b.identity)))
	list, err := b.at("services", b.namespace).List(t.Context(), metav1.ListOptions{})
	ok(t, err)
	if len(list.Items) > 0 || b.get("configmaps", "mayfly-"+b.identity) != nil {
		t.Error("something is left")
	}
	if _, err := b.at("namespaces", "").Get(t.Context(), b.identity, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is left: %v", err)
	}
	// This provider still knows the owner that is gone.
	late := b.create("core/v1:ConfigMap", "late", "data: {a: one}")
	eventually(t, "what came late is collected", func() bool {
		_, name, _ := strings.Cut(string(late.id), "/")
		return b.get("configmaps", name) == nil
	})
	ok(t, b.newProvider().Sweep(t.Context(), ctf.Identity(b.identity)))
}
