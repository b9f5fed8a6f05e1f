package install_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// A function is what a func.yaml says of one.
type function struct {
	Namespace string
	Run       struct {
		Envs    []struct{ Name, Value string }
		Volumes []struct {
			Path     string
			EmptyDir struct{ SizeLimit resource.Quantity }
		}
	}
	Deploy struct {
		ServiceAccountName string
		Options            struct {
			Resources struct {
				Requests, Limits struct{ CPU, Memory resource.Quantity }
			}
		}
	}
}

// func.yaml is one of func's: testdata/func_yaml-schema.json is
// schema/func_yaml-schema.json of github.com/knative/func at 65029640d.
func TestFuncYAMLFitsItsSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "func_yaml-schema.json"))
	check(t, err)
	text, err := os.ReadFile(filepath.Join(root, "func.yaml"))
	check(t, err)
	document, err := yaml.YAMLToJSON(text)
	check(t, err)
	for name, change := range map[string]string{"as it is": "", "with a field of nobody": `"cheese":1,`} {
		var value any
		check(t, json.Unmarshal([]byte(strings.Replace(string(document), "{", "{"+change, 1)), &value))
		if err := schema.Validate(value); (err == nil) != (change == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// func.yaml says the same as the configuration, as far as it has words for it.
func TestFuncYAMLIsAsTheOthers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "func.yaml"))
	check(t, err)
	var f function
	check(t, yaml.Unmarshal(text, &f))
	o := options("production")
	o.Namespace = f.Namespace
	like := functions(t, o)["create-instance"].Spec.Template.Spec
	container := like.Containers[0]
	want := settingsOf(t, o)
	maps.DeleteFunc(want, func(_, value string) bool { return value == "" })
	for _, v := range container.Env {
		want[v.Name] = v.Value
		if v.ValueFrom != nil {
			want[v.Name] = "{{ secret:" + v.ValueFrom.SecretKeyRef.Name + ":" + v.ValueFrom.SecretKeyRef.Key + " }}"
		}
	}
	// It listens where func says, sends events to itself, is its own gateway, and
	// holds scenarios to the policy that is built in; each secret that may be missing
	// is one more line.
	for _, left := range []string{"ADDRESS", "LOG_LEVEL", "K_SINK", "GATEWAY_TARGET", "KUBERNETES_POLICY", "MAYFLY_TOKEN", "OCI_PASSWORD"} {
		if want[left] == "" {
			t.Errorf("%s is left out, and create-instance has none", left)
		}
		delete(want, left)
	}
	got := map[string]string{}
	for _, v := range f.Run.Envs {
		got[v.Name] = v.Value
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("variables: %s", d)
	}
	if f.Deploy.ServiceAccountName != like.ServiceAccountName {
		t.Errorf("it runs as %s", f.Deploy.ServiceAccountName)
	}
	resources := f.Deploy.Options.Resources
	size := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resources.Requests.CPU, "memory": resources.Requests.Memory},
		Limits:   corev1.ResourceList{"cpu": resources.Limits.CPU, "memory": resources.Limits.Memory},
	}
	if d := cmp.Diff(container.Resources, size); d != "" {
		t.Errorf("resources: %s", d)
	}
	sizes := map[string]resource.Quantity{}
	for _, mount := range container.VolumeMounts {
		for _, v := range like.Volumes {
			if v.Name == mount.Name && v.EmptyDir != nil {
				sizes[mount.MountPath] = *v.EmptyDir.SizeLimit
			}
		}
	}
	for _, v := range f.Run.Volumes {
		if d := cmp.Diff(sizes[v.Path], v.EmptyDir.SizeLimit); d != "" {
			t.Errorf("%s: %s", v.Path, d)
		}
		delete(sizes, v.Path)
	}
	if len(sizes) > 0 {
		t.Errorf("it lacks the volumes %v", sizes)
	}
}
