package scenario_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := writeDir(t, prebuilt)
	if program, err := scenario.Inspect(dir); err != nil || program != filepath.Join(dir, "main") {
		t.Errorf("program %s, %v", program, err)
	}
	source := writeDir(t, map[string]string{"Pulumi.yaml": "name: source\nruntime: go\n"})
	if program, err := scenario.Inspect(source); err != nil || program != "" {
		t.Errorf("source: program %s, %v", program, err)
	}
	_, err := scenario.Inspect(t.TempDir())
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "Pulumi.yaml")
	if err := os.Symlink("main", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	_, err = scenario.Inspect(dir)
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "link")
}
