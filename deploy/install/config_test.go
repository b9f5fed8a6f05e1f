package install_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/deploy/install"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/knative"
)

const root = "../.."

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func options(overlay string) install.Options {
	return install.Options{
		Config: filepath.Join(root, "config"), Overlay: overlay, Namespace: "ns",
		Images: map[string]string{
			"api":    "registry.example/m/api@sha256:" + strings.Repeat("a", 64),
			"engine": "registry.example:5000/m/engine:tag",
			"redis":  "registry.example/redis",
		},
	}
}

func render(t *testing.T, o install.Options) []*unstructured.Unstructured {
	t.Helper()
	objects, err := install.Render(o)
	check(t, err)
	return objects
}

// typed returns the type that an object is to be read into.
func typed(object *unstructured.Unstructured) any {
	switch gvk := object.GroupVersionKind(); gvk.GroupVersion().String() + "/" + gvk.Kind {
	case "serving.knative.dev/v1/Service":
		return &servingv1.Service{}
	case "eventing.knative.dev/v1/Broker":
		return &eventingv1.Broker{}
	case "eventing.knative.dev/v1/Trigger":
		return &eventingv1.Trigger{}
	case "sources.knative.dev/v1/PingSource":
		return &sourcesv1.PingSource{}
	case "apps/v1/StatefulSet":
		return &appsv1.StatefulSet{}
	case "v1/Namespace":
		return &corev1.Namespace{}
	case "v1/ConfigMap":
		return &corev1.ConfigMap{}
	case "v1/Service":
		return &corev1.Service{}
	case "v1/ServiceAccount":
		return &corev1.ServiceAccount{}
	case "rbac.authorization.k8s.io/v1/Role":
		return &rbacv1.Role{}
	case "rbac.authorization.k8s.io/v1/RoleBinding":
		return &rbacv1.RoleBinding{}
	case "networking.k8s.io/v1/NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	}
	return nil
}

// Every field is one that its kind has, and every name follows the namespace.
func TestRender(t *testing.T) {
	t.Parallel()
	for _, overlay := range []string{"local", "production"} {
		objects := render(t, options(overlay))
		for _, object := range objects {
			into := typed(object)
			if into == nil {
				t.Errorf("%s: an unexpected kind %s", overlay, object.GroupVersionKind())
				continue
			}
			text, err := yaml.Marshal(object)
			check(t, err)
			if err := yaml.UnmarshalStrict(text, into); err != nil {
				t.Errorf("%s: %s %s: %v", overlay, object.GetKind(), object.GetName(), err)
			}
			if n := object.GetNamespace(); n != "ns" && n != "ns-instances" && object.GetKind() != "Namespace" {
				t.Errorf("%s: %s %s is in %q", overlay, object.GetKind(), object.GetName(), n)
			}
			if strings.Contains(string(text), "namespace: mayfly") {
				t.Errorf("%s: %s %s names the default namespace", overlay, object.GetKind(), object.GetName())
			}
			if object.GetLabels()["app.kubernetes.io/part-of"] != "mayfly" {
				t.Errorf("%s: %s %s is not labelled", overlay, object.GetKind(), object.GetName())
			}
		}
	}
}

// A verb is a folder, a line in a main and a file in config.
func TestEveryVerb(t *testing.T) {
	t.Parallel()
	wired := map[string]bool{}
	mains := os.DirFS(filepath.Join(root, "functions/cmd"))
	check(t, fs.WalkDir(mains, ".", func(main string, entry fs.DirEntry, err error) error {
		if err != nil || path.Ext(main) != ".go" || strings.HasSuffix(main, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "functions/cmd", main), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			check(t, err)
			wired[path.Base(imported)] = wired[path.Base(imported)] || path.Dir(imported) == "github.com/mayfly-ctf/mayfly/functions"
		}
		return nil
	}))
	configured := functions(t, options("production"))
	verbs := map[string]bool{}
	for name := range configured {
		verbs[name] = true
	}
	entries, err := os.ReadDir(filepath.Join(root, "functions"))
	check(t, err)
	folders := map[string]bool{}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "cmd" {
			folders[entry.Name()], verbs[entry.Name()] = true, true
		}
	}
	for verb := range verbs {
		if !folders[verb] {
			t.Errorf("%s has no folder in functions", verb)
		}
		if !wired[verb] {
			t.Errorf("%s has no line in a main of functions/cmd", verb)
		}
		if _, ok := configured[verb]; !ok {
			t.Errorf("%s has no file config/base/functions/%s.yaml", verb, verb)
		}
		if _, err := os.Stat(filepath.Join(root, "config/base/functions", verb+".yaml")); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// The rights of the engine are those that the policy needs, and no more.
func TestRightsFitThePolicy(t *testing.T) {
	t.Parallel()
	var policy struct{ Kinds []string }
	text, err := os.ReadFile(filepath.Join(root, "config/base/policy.yaml"))
	check(t, err)
	check(t, yaml.Unmarshal(text, &policy))
	var want []string
	for _, kind := range policy.Kinds {
		group, name := path.Split(kind)
		plural := strings.ToLower(name) + "s"
		if plural == "networkpolicys" {
			plural = "networkpolicies"
		}
		if plural == "ingresss" {
			plural = "ingresses"
		}
		want = append(want, strings.TrimSuffix(group, "/")+"/"+plural)
	}
	var role rbacv1.Role
	text, err = os.ReadFile(filepath.Join(root, "config/base/instances/role-engine.yaml"))
	check(t, err)
	check(t, yaml.UnmarshalStrict(text, &role))
	var got []string
	for _, rule := range role.Rules {
		if !slices.Contains(rule.Verbs, "create") {
			continue
		}
		if d := cmp.Diff([]string{"get", "list", "watch", "create", "patch", "delete"}, rule.Verbs); d != "" {
			t.Errorf("%v: %s", rule.Resources, d)
		}
		for _, resource := range rule.Resources {
			got = append(got, rule.APIGroups[0]+"/"+resource)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("policy and rights differ: %s", d)
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	o := options("production")
	o.Public = true
	for name, function := range functions(t, o) {
		if local := function.Labels["networking.knative.dev/visibility"] == "cluster-local"; local == (name == "gateway") {
			t.Errorf("%s: inside of the cluster only: %v", name, local)
		}
	}
}

// How events are delivered is said, and what can't be delivered comes to
// reconcile.
func TestDelivery(t *testing.T) {
	t.Parallel()
	deliveries, sinks := map[string]*eventingduckv1.DeliverySpec{}, map[string]duckv1.Destination{}
	filters := map[string][]eventingv1.SubscriptionsAPIFilter{}
	for _, object := range render(t, options("production")) {
		read := func(into any) {
			check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into))
		}
		switch into := typed(object).(type) {
		case *eventingv1.Broker:
			read(into)
			deliveries["broker"] = into.Spec.Delivery
		case *eventingv1.Trigger:
			read(into)
			deliveries["trigger "+into.Name], sinks["trigger "+into.Name] = into.Spec.Delivery, into.Spec.Subscriber
			filters[into.Name] = into.Spec.Filters
		case *sourcesv1.PingSource:
			read(into)
			sinks[into.Name] = into.Spec.Sink
		}
	}
	want := &eventingduckv1.DeliverySpec{
		Retry: new(int32(5)), BackoffPolicy: new(eventingduckv1.BackoffPolicyExponential), BackoffDelay: new("PT1S"), Timeout: new("PT2M"),
		DeadLetterSink: destination("reconcile"),
	}
	if d := cmp.Diff(map[string]*eventingduckv1.DeliverySpec{"broker": want, "trigger fill-pool": want, "trigger reconcile": want}, deliveries); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]duckv1.Destination{
		"expire": *destination("expire"), "reconcile": *destination("reconcile"),
		"trigger fill-pool": *destination("fill-pool"), "trigger reconcile": *destination("reconcile"),
	}, sinks); d != "" {
		t.Error(d)
	}
	left := []eventingv1.SubscriptionsAPIFilter{{Exact: map[string]string{"type": events.TypePrefix + string(ctf.ChallengeUnsettled)}}}
	if d := cmp.Diff(left, filters["reconcile"]); d != "" {
		t.Error(d)
	}
}

func destination(function string) *duckv1.Destination {
	return &duckv1.Destination{
		Ref: &duckv1.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: function}, URI: &apis.URL{Path: "/" + function},
	}
}

// Redis of the overlay local loses its data with its pod only where nobody
// provides volumes; that of others never does.
func TestVolume(t *testing.T) {
	t.Parallel()
	for overlay, without := range map[string]int{"local": 0, "production": 1} {
		for volume, want := range map[bool]int{false: without, true: 1} {
			o := options(overlay)
			o.Volume = volume
			for _, object := range render(t, o) {
				if object.GetKind() != "StatefulSet" {
					continue
				}
				var redis appsv1.StatefulSet
				check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &redis))
				if claims, own := len(redis.Spec.VolumeClaimTemplates), len(redis.Spec.Template.Spec.Volumes); claims != want || own != 1-want {
					t.Errorf("%s, volume %v: %d claims, %d volumes of the pod", overlay, volume, claims, own)
				}
			}
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	o := options("none")
	if _, err := install.Render(o); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("an overlay that is not there: %v", err)
	}
	o.Config = t.TempDir()
	if _, err := install.Render(o); err == nil {
		t.Error("a folder without configuration was built")
	}
}

// None can be set apart from what else says the same.
func TestSettingsThatAreFixed(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{
		"RECONCILE", "TICK_PINGSOURCE", "PORT", "K_SINK", "GATEWAY_TARGET", "GOMEMLIMIT", "CACHE",
		"KUBERNETES", "KUBERNETES_POLICY", "KUBERNETES_TARGET_NAMESPACE",
	} {
		o := options("local")
		o.Settings = map[string]string{setting: "1m"}
		if _, err := install.Render(o); err == nil || !strings.Contains(err.Error(), "setting "+setting+":") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// settingsOf are the settings that the functions of a configuration read.
func settingsOf(t *testing.T, o install.Options) map[string]string {
	t.Helper()
	for _, object := range render(t, o) {
		if object.GetKind() == "ConfigMap" && strings.HasPrefix(object.GetName(), "settings-") {
			data, _, err := unstructured.NestedStringMap(object.Object, "data")
			check(t, err)
			return data
		}
	}
	t.Fatal("there are no settings")
	return nil
}

// The fast tick is off until a function turns it on, and the slow one comes as
// often as functions take it to.
func TestSchedules(t *testing.T) {
	t.Parallel()
	o := options("production")
	every, err := time.ParseDuration(settingsOf(t, o)["RECONCILE"])
	check(t, err)
	want := map[string]string{
		"expire":    knative.ScheduleOff,
		"reconcile": fmt.Sprintf("*/%d * * * *", int(every.Minutes())),
	}
	if d := cmp.Diff(want, schedules(t, o)); d != "" {
		t.Error(d)
	}
	if tick := settingsOf(t, o)["TICK_PINGSOURCE"]; tick != "expire" {
		t.Errorf("functions turn on %q", tick)
	}
}

// schedules are those of the ticks.
func schedules(t *testing.T, o install.Options) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, object := range render(t, o) {
		if object.GetKind() == "PingSource" {
			var tick sourcesv1.PingSource
			check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &tick))
			found[tick.Name] = tick.Spec.Schedule
		}
	}
	return found
}
