package scenario_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// source is a scenario of Go source whose program prints hello.
var source = map[string]string{
	"Pulumi.yaml": "name: source\nruntime: go\n",
	"go.mod":      "module source\n\ngo 1.21\n",
	"main.go":     "package main\n\nfunc main() { println(greeting) }\n",
	"greeting.go": "package main\n\nconst greeting = \"hello\"\n",
}

func TestOpenCompilesGoSource(t *testing.T) {
	t.Setenv("MAYFLY_SECRET", "not for compilers")
	host := startRegistry(t)
	c := open(t, newLibrary(t, scenario.Options{}), push(t, host+"/s:1", source))
	if strings.HasPrefix(c.Binary, c.Dir) {
		t.Errorf("the program %s lies among the scenario's files", c.Binary)
	}
	output, err := exec.CommandContext(t.Context(), c.Binary).CombinedOutput()
	if err != nil || string(output) != "hello\n" {
		t.Errorf("the program printed %q (%v)", output, err)
	}
}

func TestOpenTellsWhyGoSourceDoesNotCompile(t *testing.T) {
	host := startRegistry(t)
	broken := maps.Clone(source)
	broken["main.go"] = "package main\n\nfunc main() { return 7 }\n"
	cacheDir := t.TempDir()
	_, err := newLibrary(t, scenario.Options{CacheDir: cacheDir}).Open(t.Context(), push(t, host+"/s:1", broken))
	wantReason(t, err, ctf.ReasonScenarioPreprocess, ctf.Internal, "too many return values", "main.go:3")
	if left := entries(t, cacheDir); len(left) > 0 {
		t.Errorf("the cache kept %v", left)
	}
}

func TestOpenTellsWhatToDoWithoutAToolchain(t *testing.T) {
	host := startRegistry(t)
	s := push(t, host+"/s:1", source)
	t.Setenv("PATH", t.TempDir())
	_, err := newLibrary(t, scenario.Options{}).Open(t.Context(), s)
	wantReason(t, err, ctf.ReasonScenarioPreprocess, ctf.Internal, "no Go toolchain", "go build", "push the directory again")
}

func TestOpenCompilesWithoutTheServersSecrets(t *testing.T) {
	host := startRegistry(t)
	s := push(t, host+"/s:1", source)
	dir := t.TempDir()
	fake := "#!/bin/sh\nenv; exit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("OCI_PASSWORD", "s3cret")
	t.Setenv("GOFLAGS", "-modcacherw")
	_, err := newLibrary(t, scenario.Options{}).Open(t.Context(), s)
	wantReason(t, err, ctf.ReasonScenarioPreprocess, ctf.Internal, "CGO_ENABLED=0", "GOFLAGS=-modcacherw -mod=mod")
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the compiler saw a secret: %v", err)
	}
}
