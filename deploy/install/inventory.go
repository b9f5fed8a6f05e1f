package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// inventory is the ConfigMap that remembers what was applied, so that what the
// configuration has no more can be removed.
const inventory = "mayfly-inventory"

func inventoryOf(namespace string) identity {
	return identity{schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, namespace, inventory}
}

// remembered returns what was applied before.
func (c *Cluster) remembered(ctx context.Context, namespace string) ([]identity, error) {
	live, err := c.get(ctx, inventoryOf(namespace))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was applied before: %w", err)
	}
	text, _, _ := unstructured.NestedString(live.Object, "data", "objects")
	ids, err := parseInventory([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read what was applied before: ConfigMap %s/%s: %w", namespace, inventory, err)
	}
	return ids, nil
}

// parseInventory refuses what names no object: all of these may be deleted.
func parseInventory(text []byte) ([]identity, error) {
	var ids []identity
	if err := json.Unmarshal(text, &ids); err != nil {
		return nil, err
	}
	for n, id := range ids {
		if id.Version == "" || id.Kind == "" || id.Name == "" {
			return nil, fmt.Errorf("object %d has no version, kind or name", n)
		}
	}
	return ids, nil
}

// remember stores what is applied. It is called before, with what may be there,
// and after, with what is: whatever is interrupted in between, nothing is
// forgotten.
func (c *Cluster) remember(ctx context.Context, namespace string, ids []identity) error {
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	object := &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"objects": string(text)}}}
	id := inventoryOf(namespace)
	object.SetGroupVersionKind(id.GroupVersionKind)
	object.SetNamespace(id.Namespace)
	object.SetName(id.Name)
	object.SetLabels(ours())
	_, err = c.apply(ctx, object, false)
	return err
}

// without returns what is in one list and not in the other, whatever the
// versions of the kinds.
func without(all, some []identity) []identity {
	return slices.DeleteFunc(slices.Clone(all), func(id identity) bool {
		return slices.ContainsFunc(some, func(other identity) bool {
			return id.GroupKind() == other.GroupKind() && id.Namespace == other.Namespace && id.Name == other.Name
		})
	})
}
