package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// With images that are there nothing is built, and a Redis at an address leaves
// the configuration's own out.
func TestRenderCommand(t *testing.T) {
	t.Setenv(redisVariable, "redis://redis.example:6379")
	dir := t.TempDir()
	if err := run(t, "render", "--config", config, "--out", dir); err == nil || !strings.Contains(err.Error(), "set REGISTRY") {
		t.Errorf("without images and a registry: %v", err)
	}
	check(t, run(t, "render", "--config", config, "--out", dir, "--image", "api=r.example/api,engine=r.example/engine"))
	if found, _ := filepath.Glob(filepath.Join(dir, "*redis*")); len(found) > 0 {
		t.Errorf("there is %v", found)
	}
	if _, err := os.Stat(filepath.Join(dir, "service-gateway.yaml")); err != nil {
		t.Error(err)
	}
}

// Every object has a file of its own, also where two namespaces have one of the
// same kind and name.
func TestRender(t *testing.T) {
	t.Parallel()
	o := install.Options{
		Config: config, Overlay: "local", Namespace: "ns",
		Images: map[string]string{"api": "registry.example/api", "engine": "registry.example/engine", "redis": "registry.example/redis"},
	}
	objects, err := install.Render(o)
	check(t, err)
	dir := t.TempDir()
	check(t, render(o, dir))
	files, err := os.ReadDir(dir)
	check(t, err)
	if len(files) != len(objects) {
		t.Errorf("%d objects are in %d files", len(objects), len(files))
	}
	for _, name := range []string{"service-renew-instance.yaml", "core-service-redis.yaml", "role-engine.ns-instances.yaml", "core-namespace-ns.yaml"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
