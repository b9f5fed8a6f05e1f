package kubernetes

import (
	"context"
	"errors"
	"reflect"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Diff compares what is live with what applying the inputs would make of it, as
// the API server itself tells. So it finds as well what somebody changed or
// deleted by hand, and what does not work. What can't be changed is replaced,
// the old one going first: both have the same name.
func (p *Provider) Diff(ctx context.Context, r plugin.DiffRequest) (plugin.DiffResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	k, err := p.cluster.kindOf(ctx, r.URN.Type())
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	before, err := nameIn(k, r.ID, r.OldInputs)
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	after, err := nameIn(k, "", r.NewInputs)
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	if before.name != after.name || before.namespace != after.namespace && k.namespaced {
		return replace("metadata"), nil
	}
	object, err := p.desired(k, r.URN, r.NewInputs)
	if errors.Is(err, errUnknown) {
		return changed(changedKeys(r.OldInputs, r.NewInputs)...), nil
	}
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	var found plugin.DiffResponse
	err = anew(ctx, func() error {
		live, err := p.find(ctx, k, after, identityOf(r.URN))
		if err != nil {
			return err
		}
		if live == nil || live.GetDeletionTimestamp() != nil {
			found = replace("metadata")
			return nil
		}
		found, err = p.compare(ctx, k, r, live, object)
		return err
	})
	return found, err
}

// compare tries the change out on the API server.
func (p *Provider) compare(
	ctx context.Context, k kind, r plugin.DiffRequest, live, object *unstructured.Unstructured,
) (plugin.DiffResponse, error) {
	identity := identityOf(r.URN)
	if err := p.policy.allow(k, object, identity); err != nil {
		return plugin.DiffResponse{}, err
	}
	if err := p.adopt(ctx, k, object, identity, true); err != nil {
		return plugin.DiffResponse{}, err
	}
	if k.namespaced {
		if len(object.GetOwnerReferences()) == 0 {
			return replace("metadata"), nil // its owner is gone, and so will it be
		}
		if ends, err := p.owners.ends(ctx, object.GetNamespace()); err != nil || ends {
			return replace("metadata"), err // its namespace goes, and takes it along
		}
	}
	object = leaveIgnored(object, live, r.IgnoreChanges)
	object.SetResourceVersion("") // whoever changes it meanwhile is seen by Update
	result, err := p.cluster.apply(ctx, k, object, live, identity, true)
	if isImmutable(err) {
		return replace(changedKeys(r.OldInputs, r.NewInputs)...), nil
	}
	if err != nil {
		return plugin.DiffResponse{}, rejected(object, err)
	}
	var keys []resource.PropertyKey
	for _, key := range differing(live, result) {
		keys = append(keys, resource.PropertyKey(key))
	}
	if uidOf(r.OldOutputs) != live.GetUID() {
		keys = append(keys, "metadata")
	}
	if s, err := statusOf(k, live); err != nil || s.state != works {
		keys = append(keys, "status")
	}
	return changed(keys...), nil
}

// differing are the top-level fields in which the objects differ, bookkeeping
// aside.
func differing(a, b *unstructured.Unstructured) []string {
	strip := func(o *unstructured.Unstructured) map[string]any {
		o = o.DeepCopy()
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		o.SetGeneration(0)
		delete(o.Object, "status")
		return o.Object
	}
	older, newer := strip(a), strip(b)
	var keys []string
	for key := range older {
		if !reflect.DeepEqual(older[key], newer[key]) {
			keys = append(keys, key)
		}
	}
	for key := range newer {
		if _, ok := older[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

func changedKeys(olds, news resource.PropertyMap) []resource.PropertyKey {
	var keys []resource.PropertyKey
	for _, key := range news.StableKeys() {
		if !olds[key].DeepEquals(news[key]) {
			keys = append(keys, key)
		}
	}
	for _, key := range olds.StableKeys() {
		if _, ok := news[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

func changed(keys ...resource.PropertyKey) plugin.DiffResponse {
	if len(keys) == 0 {
		return plugin.DiffResponse{Changes: plugin.DiffNone}
	}
	return plugin.DiffResponse{Changes: plugin.DiffSome, ChangedKeys: keys}
}

func replace(keys ...resource.PropertyKey) plugin.DiffResponse {
	if len(keys) == 0 {
		keys = []resource.PropertyKey{"spec"}
	}
	return plugin.DiffResponse{
		Changes: plugin.DiffSome, ReplaceKeys: keys, ChangedKeys: keys, DeleteBeforeReplace: true,
	}
}

// uidOf is the uid that the outputs name, empty if they name none.
func uidOf(outputs resource.PropertyMap) types.UID {
	fields, _, err := decode(outputs["metadata"])
	if metadata, ok := fields.(map[string]any); ok && err == nil {
		uid, _ := metadata["uid"].(string)
		return types.UID(uid)
	}
	return ""
}
