package install

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/serving/pkg/apis/autoscaling"
)

// FuzzInventory: what is remembered names objects, and is written as it was
// read.
func FuzzInventory(f *testing.F) {
	f.Add([]byte(`[{"Group":"","Version":"v1","Kind":"ConfigMap","Namespace":"mayfly","Name":"settings"}]`))
	f.Add([]byte(`[{"Version":"v1","Kind":"Namespace"}]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, err := parseInventory(text)
		if err != nil {
			return
		}
		for _, id := range ids {
			if id.Version == "" || id.Kind == "" || id.Name == "" {
				t.Errorf("this is an object: %+v", id)
			}
		}
		written, err := json.Marshal(ids)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseInventory(written)
		if d := cmp.Diff(ids, again, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Errorf("it is another once it is written: %v %s", err, d)
		}
	})
}

// FuzzRescale reads the bounds that the configuration has, and others that are
// given instead. What comes out can run, and is what was given; what can't be
// is refused by the name of the function.
func FuzzRescale(f *testing.F) {
	f.Add("0", "10", 1, 2, true, true)
	f.Add("", "", 1, 2, true, true)
	f.Add("none", "none", 3, 2, true, true)
	f.Add("-1", "0x10", 0, 5, false, true)
	f.Add("5", "7", 0, 0, false, false)
	f.Fuzz(func(t *testing.T, written, limit string, least, most int, setLeast, setMost bool) {
		annotations := map[string]any{}
		if written != "" {
			annotations[autoscaling.MinScaleAnnotationKey] = written
		}
		if limit != "" {
			annotations[autoscaling.MaxScaleAnnotationKey] = limit
		}
		template := map[string]any{"metadata": map[string]any{"annotations": annotations}}
		if len(annotations) == 0 {
			delete(template, "metadata")
		}
		function := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "serving.knative.dev/v1", "kind": "Service",
			"metadata": map[string]any{"name": "tick"}, "spec": map[string]any{"template": template},
		}}
		var scale Scale
		if setLeast {
			scale.Min = &least
		}
		if setMost {
			scale.Max = &most
		}
		if err := rescale([]*unstructured.Unstructured{function}, map[string]Scale{"tick": scale}); err != nil {
			if !strings.HasPrefix(err.Error(), "scale of tick: ") {
				t.Errorf("it is not said whose: %v", err)
			}
			return
		}
		bound := func(key string) int {
			text, _, _ := unstructured.NestedString(function.Object, "spec", "template", "metadata", "annotations", key)
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Errorf("%s is %q", key, text)
			}
			return n
		}
		lowest, highest := bound(autoscaling.MinScaleAnnotationKey), bound(autoscaling.MaxScaleAnnotationKey)
		if lowest < 0 || highest < 1 || lowest > highest || setLeast && lowest != least || setMost && highest != most {
			t.Errorf("%+v makes %d to %d", scale, lowest, highest)
		}
	})
}
