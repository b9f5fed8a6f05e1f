package fillpool_test

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"sigs.k8s.io/yaml"

	fillpool "github.com/mayfly-ctf/mayfly/functions/fill-pool"
	"github.com/mayfly-ctf/mayfly/shared/events"
)

// The Trigger hands on the events that may leave a pool short, and no others.
func TestTrigger(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../config/base/events/trigger-fill-pool.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var trigger eventingv1.Trigger
	if err := yaml.UnmarshalStrict(text, &trigger); err != nil {
		t.Fatal(err)
	}
	if len(trigger.Spec.Filters) != 1 {
		t.Fatalf("%d filters", len(trigger.Spec.Filters))
	}
	var got, want []string
	for _, filter := range trigger.Spec.Filters[0].Any {
		got = append(got, filter.Exact["type"])
	}
	for _, kind := range fillpool.Types() {
		want = append(want, events.TypePrefix+string(kind))
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
