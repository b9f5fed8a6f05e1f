package image_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mayfly-ctf/mayfly/deploy/image"
)

// The same sources make the same program elsewhere: with another history, in
// another directory, and by somebody who compiles in another way.
func TestBuildElsewhere(t *testing.T) {
	const folder = "deploy/image/testdata/program"
	here, elsewhere := "../..", t.TempDir()
	copied := func(name string) {
		content, err := os.ReadFile(filepath.Join(here, name))
		check(t, err)
		to := filepath.Join(elsewhere, name)
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		check(t, os.WriteFile(to, content, 0o600))
	}
	for _, name := range []string{"go.work", "go.work.sum", folder + "/main.go"} {
		copied(name)
	}
	for _, module := range []string{"deploy", "functions", "shared", "shared/sdk"} {
		copied(module + "/go.mod")
		copied(module + "/go.sum")
	}
	for _, args := range [][]string{{"init"}, {"add", "."}, {"-c", "user.name=n", "-c", "user.email=e", "commit", "-m", "other"}} {
		git := exec.CommandContext(t.Context(), "git", append([]string{"-C", elsewhere}, args...)...)
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	file := filepath.Join(t.TempDir(), "program")
	for _, arch := range []string{"amd64", "arm64"} {
		program := func(root string) []byte {
			check(t, image.Build(t.Context(), root, folder, arch, file, t.Output()))
			content, err := os.ReadFile(file)
			check(t, err)
			return content
		}
		before := program(here)
		for variable, value := range map[string]string{
			"GOAMD64": "v3", "GOARM64": "v9.0", "GOEXPERIMENT": "arenas", "GOFLAGS": "-gcflags=-N", "GOFIPS140": "latest", "CGO_ENABLED": "1",
		} {
			t.Setenv(variable, value)
		}
		if !bytes.Equal(before, program(elsewhere)) {
			t.Errorf("%s: the program is another one elsewhere", arch)
		}
		for _, variable := range []string{"GOAMD64", "GOARM64", "GOEXPERIMENT", "GOFLAGS", "GOFIPS140", "CGO_ENABLED"} {
			t.Setenv(variable, "")
		}
	}
}
