package install

import (
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis/duck"
)

// fields returns an object of a Go type as it is to be applied: without what
// only a cluster says.
func fields(typed any) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, err
	}
	delete(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	return fields, nil
}

// change has an object changed as one of its Go type. What that does not change
// stays as it is, a 0 that the type would leave out included.
func change[T any](object *unstructured.Unstructured, by func(*T) error) error {
	before, after := new(T), new(T)
	for _, typed := range []*T{before, after} {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed); err != nil {
			return fmt.Errorf("read %s: %w", identify(object), err)
		}
	}
	if err := by(after); err != nil {
		return err
	}
	patch, err := duck.CreateMergePatch(before, after)
	if err != nil {
		return fmt.Errorf("change %s: %w", identify(object), err)
	}
	text, err := object.MarshalJSON()
	if err != nil {
		return fmt.Errorf("change %s: %w", identify(object), err)
	}
	if text, err = jsonpatch.MergePatch(text, patch); err != nil {
		return fmt.Errorf("change %s: %w", identify(object), err)
	}
	return object.UnmarshalJSON(text)
}
