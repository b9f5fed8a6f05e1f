package install_test

import (
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

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/deploy/install"
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

func functions(t *testing.T, o install.Options) map[string]servingv1.Service {
	t.Helper()
	found := map[string]servingv1.Service{}
	for _, object := range render(t, o) {
		if _, ok := typed(object).(*servingv1.Service); !ok {
			continue
		}
		var function servingv1.Service
		text, err := yaml.Marshal(object)
		check(t, err)
		check(t, yaml.Unmarshal(text, &function))
		found[function.Name] = function
	}
	return found
}

// What one function has, all have, and the images are those that were given.
func TestFunctions(t *testing.T) {
	t.Parallel()
	light := []string{"retrieve-challenge", "query-challenge", "retrieve-instance", "query-instance", "renew-instance", "gateway"}
	o := options("production")
	o.Settings = map[string]string{"LOG_LEVEL": "debug"}
	for name, function := range functions(t, o) {
		spec := function.Spec.Template.Spec
		container := spec.Containers[0]
		weight, image := "engine", o.Images["engine"]
		if slices.Contains(light, name) {
			weight, image = "api", o.Images["api"]
		}
		if spec.ServiceAccountName != weight || container.Image != image {
			t.Errorf("%s runs %s as %s", name, container.Image, spec.ServiceAccountName)
		}
		if d := cmp.Diff([]string{name}, container.Args); d != "" {
			t.Errorf("%s: arguments: %s", name, d)
		}
		if function.Labels["networking.knative.dev/visibility"] != "cluster-local" {
			t.Errorf("%s is public", name)
		}
		if weight == "engine" && (*spec.TimeoutSeconds != 600 || *spec.ResponseStartTimeoutSeconds != 600) {
			t.Errorf("%s has %d seconds", name, *spec.TimeoutSeconds)
		}
		if s := container.SecurityContext; s == nil || !*s.RunAsNonRoot || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation {
			t.Errorf("%s: security context: %+v", name, s)
		}
		if len(container.Resources.Requests) != 2 || len(container.Resources.Limits) != 2 || container.Ports[0].Name != "h2c" {
			t.Errorf("%s: %+v, %+v", name, container.Resources, container.Ports)
		}
		for _, v := range spec.Volumes {
			if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
				t.Errorf("%s: volume %s has no limit", name, v.Name)
			}
		}
		if settings := container.EnvFrom[0].ConfigMapRef.Name; !strings.HasPrefix(settings, "settings-") {
			t.Errorf("%s reads %s, which does not change with what it holds", name, settings)
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
