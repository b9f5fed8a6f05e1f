package kubernetes

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// leaveIgnored takes out of an object what the program wants to be ignored and
// somebody else has set to another value: that is theirs now. It ties the object
// to the live one's version, so that applying it is a conflict if they set it
// only meanwhile. Paths into lists are not followed.
func leaveIgnored(object, live *unstructured.Unstructured, ignored []string) *unstructured.Unstructured {
	if live == nil || len(ignored) == 0 {
		return object
	}
	object = object.DeepCopy()
	object.SetResourceVersion(live.GetResourceVersion())
	for _, text := range ignored {
		path := fieldsOf(text)
		if path == nil {
			continue
		}
		ours, _, _ := unstructured.NestedFieldNoCopy(object.Object, path...)
		theirs, found, _ := unstructured.NestedFieldNoCopy(live.Object, path...)
		if found && !reflect.DeepEqual(ours, theirs) {
			unstructured.RemoveNestedField(object.Object, path...)
		}
	}
	return object
}

// fieldsOf reads a path of Pulumi's; nil is one that is more than fields.
func fieldsOf(text string) []string {
	path, err := resource.ParsePropertyPath(text)
	if err != nil {
		return nil
	}
	var fields []string
	for _, part := range path {
		field, ok := part.(string)
		if !ok || field == "*" {
			return nil
		}
		fields = append(fields, field)
	}
	return fields
}
