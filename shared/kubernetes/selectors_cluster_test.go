//go:build cluster

package kubernetes_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// What selects pods selects those of the instance, whatever else has the same
// labels, unless the operator opened that.
func TestSelectors(t *testing.T) {
	t.Parallel()
	for _, opened := range []bool{false, true} {
		b := newBench(t, func(o *kubernetes.Options) {
			o.Policy = kubernetes.DefaultPolicy()
			o.Policy.SelectAnyPods = opened
		})
		b.create("core/v1:Service", "s", "metadata: {name: s}\nspec: {selector: {app: web}, ports: [{port: 80}]}")
		b.create("core/v1:Service", "none", "metadata: {name: none}\nspec: {ports: [{port: 80}]}")
		b.create("networking.k8s.io/v1:NetworkPolicy", "policy", "metadata: {name: policy}\nspec: {podSelector: {}, ingress: [{}]}")
		b.create("policy/v1:PodDisruptionBudget", "p", "metadata: {name: p}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}")
		for _, c := range []struct {
			plural, name string
			path         []string
			selects      bool
		}{
			{"services", "s", []string{"spec", "selector"}, true},
			{"services", "none", []string{"spec", "selector"}, false},
			{"networkpolicies", "policy", []string{"spec", "podSelector", "matchLabels"}, true},
			{"poddisruptionbudgets", "p", []string{"spec", "selector", "matchLabels"}, true},
		} {
			labels, _, err := unstructured.NestedStringMap(b.get(c.plural, c.name).Object, c.path...)
			ok(t, err)
			want := ""
			if c.selects && !opened {
				want = b.identity
			}
			if got := labels[kubernetes.LabelIdentity]; got != want {
				t.Errorf("opened %v: %s selects %v", opened, c.name, labels)
			}
		}
	}
}
