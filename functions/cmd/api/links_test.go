package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The light functions link no engine, nor what it stands on: their image would
// be three times as large, and each cold start as much longer.
func TestLinksNoEngine(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	seen := 0
	for dependency := range strings.Lines(string(out)) {
		seen++
		for _, heavy := range []string{
			"github.com/pulumi/", "k8s.io/client-go", "knative.dev/",
			"github.com/mayfly-ctf/mayfly/shared/engine", "github.com/mayfly-ctf/mayfly/shared/scenario",
			"github.com/mayfly-ctf/mayfly/shared/lifecycle", "github.com/mayfly-ctf/mayfly/functions/cmd/internal/system",
		} {
			if strings.HasPrefix(dependency, heavy) {
				t.Errorf("it links %s", dependency)
			}
		}
	}
	if seen < 100 {
		t.Errorf("go list names %d packages", seen)
	}
}
