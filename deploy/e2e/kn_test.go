//go:build cluster

package e2e_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/serving/pkg/apis/autoscaling"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// knWithin is how long what kn made may take to work.
const knWithin = 2 * time.Minute

// testKn runs the commands of the README as they are written: functions, ticks
// and triggers are listed, removed, made anew and changed with kn, and `make up`
// puts everything back.
func testKn(t *testing.T, i *installation) {
	lines := documented(t, "kn service list")
	wantCommands(t, lines)
	before := i.applied(t)
	terminal := i.terminal(t)
	deleting, rest := cut(t, lines, "kn service delete renew-instance")
	terminal.run(t, deleting)
	i.wantAway(t)
	making, rest := cut(t, rest, "kn trigger list")
	listed := terminal.run(t, making)
	for _, line := range append(i.names(t), `reconcile +\*/30`, `fill-pool +mayfly`) {
		if !regexp.MustCompile(`(?m)^` + line + ` `).MatchString(listed) {
			t.Errorf("kn does not list %s", line)
		}
	}
	i.wantMade(t)
	terminal.run(t, rest)
	if d := gocmp.Diff(before, i.applied(t)); d != "" {
		t.Errorf("not all is put back: %s", d)
	}
	i.wantHealth(t, "renew-instance")
}

// wantCommands looks whether the README shows all that is promised of kn.
func wantCommands(t *testing.T, lines []string) {
	t.Helper()
	all := strings.Join(lines, "\n")
	for what, verbs := range map[string][]string{
		"service": {"apply", "list", "update", "delete"}, "source ping": {"create", "list", "update", "delete"},
		"trigger": {"create", "list", "update", "delete"},
	} {
		for _, verb := range verbs {
			if command := "kn " + what + " " + verb + " "; !strings.Contains(all, command) {
				t.Errorf("the README does not show %s", command)
			}
		}
	}
}

// wantMade waits until what kn made works, and wakes the functions in its way.
func (i *installation) wantMade(t *testing.T) {
	t.Helper()
	all := i.functions(t)
	if len(all) != functions {
		t.Errorf("there are %d functions", len(all))
	}
	for name := range all {
		i.awaitReady(t, name)
	}
	if scale := all["renew-instance"].Spec.Template.Annotations[autoscaling.MaxScaleAnnotationKey]; scale != "2" {
		t.Errorf("renew-instance has %s pods at most", scale)
	}
	i.wantHealth(t, "renew-instance")
	sink := i.works(t, sourcesv1.SchemeGroupVersion.WithResource("pingsources"), "reconcile", "sinkUri")
	check(t, post(t.Context(), i.plain, sink, newTick()))
	sink = i.works(t, eventingv1.SchemeGroupVersion.WithResource("triggers"), "fill-pool", "subscriberUri")
	event, err := events.Encode(ctf.Event{
		ID: "e2e/" + string(ctf.NewIdentity()), Type: ctf.InstanceClaimed, At: time.Now(),
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "none"},
	})
	check(t, err)
	check(t, post(t.Context(), i.plain, sink, event))
}

// works waits until an object is ready, and returns the address that it has
// found.
func (i *installation) works(t *testing.T, of schema.GroupVersionResource, name, field string) string {
	t.Helper()
	var live *unstructured.Unstructured
	clustertest.Eventually(t, knWithin, name+" is ready", func() (err error) {
		live, err = i.Objects.Resource(of).Namespace(i.namespace).Get(t.Context(), name, metav1.GetOptions{})
		check(t, err)
		return isReady(live)
	})
	sink, _, err := unstructured.NestedString(live.Object, "status", field)
	check(t, err)
	if at, err := url.Parse(sink); err != nil || at.Host == "" {
		t.Fatalf("%s leads to %q, %v", name, sink, err)
	}
	return sink
}

// applied is what the configuration says of functions, ticks and triggers, as
// the cluster has it.
func (i *installation) applied(t *testing.T) map[string]any {
	t.Helper()
	found := map[string]any{}
	for name, f := range i.functions(t) {
		notes := map[string]string{}
		for key, value := range f.Spec.Template.Annotations {
			if strings.Contains(key, autoscaling.GroupName) {
				notes[key] = value
			}
		}
		found[name] = []any{f.Labels, notes, f.Spec.Template.Spec, f.Spec.Traffic}
	}
	for _, of := range []schema.GroupVersionResource{
		sourcesv1.SchemeGroupVersion.WithResource("pingsources"), eventingv1.SchemeGroupVersion.WithResource("triggers"),
	} {
		list, err := i.Objects.Resource(of).Namespace(i.namespace).List(t.Context(), metav1.ListOptions{})
		check(t, err)
		for _, object := range list.Items {
			if object.GetName() == "expire" { // functions switch it
				unstructured.RemoveNestedField(object.Object, "spec", "schedule")
			}
			found[object.GetKind()+" "+object.GetName()] = object.Object["spec"]
		}
	}
	return found
}

// wantHealth waits until a function answers: the ingress may learn late of what
// is ready.
func (i *installation) wantHealth(t testing.TB, function string) {
	t.Helper()
	clustertest.Eventually(t, time.Minute, function+" answers", func() error {
		_, err := i.version(t.Context(), function)
		return err
	})
}
