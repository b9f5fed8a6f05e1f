//go:build cluster

package kubernetes_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// newKind makes a kind Wand in a group of its own, and returns where its
// objects are and the module of their tokens.
func (b *bench) newKind() (dynamic.ResourceInterface, string) {
	b.t.Helper()
	group := "x" + random() + ".mayfly.test"
	crd := &unstructured.Unstructured{Object: properties(b.t, fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: wands.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: wands, singular: wand, kind: Wand, listKind: WandList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`, group)).Mappable()}
	at := b.at("customresourcedefinitions", "")
	_, err := at.Create(b.t.Context(), crd, metav1.CreateOptions{})
	ok(b.t, err)
	b.t.Cleanup(func() { ok(b.t, at.Delete(context.Background(), crd.GetName(), metav1.DeleteOptions{})) })
	wands := b.objects.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "wands"}).Namespace(b.namespace)
	eventually(b.t, "the kind is served", func() bool {
		_, err := wands.List(b.t.Context(), metav1.ListOptions{})
		return err == nil
	})
	return wands, group + "/v1:Wand"
}

// An object of a custom kind is waited for as its author says, and is gone only
// when what was made of it is.
func TestCustomKind(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *kubernetes.Options) {
		o.Policy = kubernetes.DefaultPolicy()
		o.Policy.Kinds = append(o.Policy.Kinds, "*.mayfly.test/Wand")
	})
	wands, token := b.newKind()
	created := make(chan made, 1)
	go func() {
		created <- b.create(token, "wand", `metadata: {name: wand, annotations: {pulumi.com/waitFor: "condition=Ready"}}`)
	}()
	for _, status := range []string{"False", "True"} {
		eventually(t, "the wand is there", func() bool {
			select {
			case <-created:
				t.Fatal("it counts as ready before it is")
			default:
			}
			_, err := wands.Patch(t.Context(), "wand", types.MergePatchType,
				[]byte(`{"status":{"conditions":[{"type":"Ready","status":"`+status+`"}]}}`), metav1.PatchOptions{}, "status")
			return err == nil
		})
	}
	m := <-created

	live, err := wands.Get(t.Context(), "wand", metav1.GetOptions{})
	ok(t, err)
	child := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
	child.SetName("spark")
	child.SetFinalizers([]string{"mayfly.test/hold"})
	yes := true
	child.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: live.GetAPIVersion(), Kind: "Wand", Name: "wand", UID: live.GetUID(), BlockOwnerDeletion: &yes,
	}})
	_, err = b.at("configmaps", b.namespace).Create(t.Context(), child, metav1.CreateOptions{})
	ok(t, err)
	began := time.Now()
	_, err = b.provider.Delete(t.Context(), plugin.DeleteRequest{URN: m.urn, ID: m.id, Inputs: m.inputs, Outputs: m.outputs, Timeout: 1})
	if err == nil || !strings.Contains(err.Error(), "not gone after 1s") {
		t.Errorf("deleted in %v while something that it made is there: %v", time.Since(began), err)
	}
	_, err = b.at("configmaps", b.namespace).Patch(t.Context(), "spark", types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	ok(t, err)
	b.delete(m)
	if b.get("configmaps", "spark") != nil {
		t.Error("what it made is left")
	}
}

// What a program wants to be ignored stays as somebody else set it, also while
// something else of the object is changed; until then it is the program's.
func TestIgnoreChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.create("core/v1:ConfigMap", "settings", "data: {theirs: first, ours: one}")
	ignored := []string{"data.theirs", "data[0]", `data["none"]`}
	diff := func(news resource.PropertyMap) plugin.DiffResponse {
		t.Helper()
		d, err := b.provider.Diff(t.Context(), plugin.DiffRequest{
			URN: m.urn, ID: m.id, OldInputs: m.inputs, OldOutputs: m.outputs, NewInputs: news, IgnoreChanges: ignored,
		})
		ok(t, err)
		return d
	}
	update := func(news resource.PropertyMap, theirs, ours string) {
		t.Helper()
		r, err := b.provider.Update(t.Context(), plugin.UpdateRequest{
			URN: m.urn, ID: m.id, OldInputs: m.inputs, OldOutputs: m.outputs, NewInputs: news, IgnoreChanges: ignored,
		})
		ok(t, err)
		m.inputs, m.outputs = news, r.Properties
		data, _, err := unstructured.NestedStringMap(b.get("configmaps", "settings-"+b.identity).Object, "data")
		ok(t, err)
		if data["theirs"] != theirs || data["ours"] != ours {
			t.Errorf("theirs is not %s, or ours not %s: %v", theirs, ours, data)
		}
	}
	update(b.inputs(m.urn, "data: {theirs: first, ours: two}"), "first", "two")
	_, err := b.at("configmaps", b.namespace).Patch(t.Context(), "settings-"+b.identity, types.MergePatchType,
		[]byte(`{"data":{"theirs":"second"}}`), metav1.PatchOptions{FieldManager: "hand"})
	ok(t, err)
	if d := diff(m.inputs); d.Changes != plugin.DiffNone {
		t.Errorf("what is ignored is a change: %+v", d)
	}
	news := b.inputs(m.urn, "data: {theirs: first, ours: three}")
	if d := diff(news); !slices.Equal(d.ChangedKeys, []resource.PropertyKey{"data"}) {
		t.Errorf("what is not ignored: %+v", d)
	}
	update(news, "second", "three")
	b.delete(m)
}
