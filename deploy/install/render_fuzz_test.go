package install_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// small is a configuration of one function, which is built faster than Mayfly's,
// with Mayfly's settings.
func small(f *testing.F) (dir string, settings []string) {
	f.Helper()
	dir = f.TempDir()
	write := func(name, content string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
			f.Fatal(err)
		}
	}
	list, err := os.ReadFile(filepath.Join(root, "config/base/settings.env"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if name, _, is := strings.Cut(line, "="); is && !strings.HasPrefix(line, "#") {
			settings = append(settings, name)
		}
	}
	write("base/settings.env", string(list))
	write("base/function.yaml", `{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: tick, namespace: mayfly},
spec: {template: {spec: {containers: [{image: api}]}}}}`)
	write("base/kustomization.yaml", `{resources: [function.yaml], configMapGenerator: [{name: settings, namespace: mayfly, envs: [settings.env]}]}`)
	write("overlays/local/kustomization.yaml", `{resources: [../../base]}`)
	return dir, settings
}

// FuzzRender gives one of the settings, or another, and an image. Either is
// refused, or stands as it was given in what is applied.
func FuzzRender(f *testing.F) {
	f.Add(byte(1), "debug", "registry.example/m/api:tag", "")
	f.Add(byte(2), `"a=b, c"`, "registry.example:5000/api@sha256:"+strings.Repeat("a", 64), "")
	f.Add(byte(3), " 10.0.0.0/8\n", "api", "")
	f.Add(byte(4), "", "a:b@c", "")
	f.Add(byte(5), "1m", "host:80/a/b", "")
	f.Add(byte(1), "\xff", "api", "")
	f.Add(byte(2), "\x00", "api", "")
	f.Add(byte(6), "08", "localhost/a", "UNKNOWN=")
	config, known := small(f)
	f.Fuzz(func(t *testing.T, which byte, value, image, other string) {
		if !strings.Contains(image, "/") {
			image = "registry.example/" + image // kustomize takes the name 0 for a number
		}
		setting := known[int(which)%len(known)]
		if other != "" {
			setting = other
		}
		objects, err := install.Render(install.Options{
			Config: config, Overlay: "local", Settings: map[string]string{setting: value},
			Images: map[string]string{"api": image, "engine": "registry.example/engine", "redis": "registry.example/redis"},
		})
		if err != nil {
			if !strings.Contains(err.Error(), "setting "+setting) && !strings.Contains(err.Error(), "image api") {
				t.Errorf("it is not said what is wrong: %v", err)
			}
			return
		}
		if !slices.Contains(known, setting) {
			t.Errorf("nothing reads %q", setting)
		}
		var settings corev1.ConfigMap
		var function servingv1.Service
		for _, object := range objects {
			into := any(&function)
			if object.GetKind() == "ConfigMap" {
				into = &settings
			}
			check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into))
		}
		if got := settings.Data[setting]; got != value || len(settings.Data) != len(known) {
			t.Errorf("%s is %q of %d settings, and %q was given", setting, got, len(settings.Data), value)
		}
		if got := function.Spec.Template.Spec.Containers[0].Image; got != image {
			t.Errorf("the image is %q, and %q was given", got, image)
		}
	})
}
