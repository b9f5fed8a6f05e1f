package scenario_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func TestOpenDirectory(t *testing.T) {
	t.Parallel()
	dir := writeDir(t, prebuilt)
	c, err := scenario.OpenDirectory(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir != dir || c.Project != "small" {
		t.Errorf("opened %s, project %s", c.Dir, c.Project)
	}
	info, err := os.Stat(c.Binary)
	if err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("the program can't be executed: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "main")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the author's own file is changed: %v, %v", info, err)
	}
	c.Close()
	c.Close()
	if _, err := os.Stat(filepath.Dir(c.Binary)); !os.IsNotExist(err) {
		t.Errorf("a closed content leaves %s: %v", filepath.Dir(c.Binary), err)
	}
}

func TestOpenDirectoryCompiles(t *testing.T) {
	t.Parallel()
	c, err := scenario.OpenDirectory(t.Context(), writeDir(t, map[string]string{
		"Pulumi.yaml": "name: source\nruntime: go\n", "go.mod": "module source\n\ngo 1.25\n", "main.go": "package main\n\nfunc main() {}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := os.Stat(c.Binary); err != nil {
		t.Error(err)
	}
	_, err = scenario.OpenDirectory(t.Context(), writeDir(t, map[string]string{
		"Pulumi.yaml": "name: source\nruntime: go\n", "go.mod": "module source\n\ngo 1.25\n", "main.go": "package main\n\nwrong\n",
	}))
	wantReason(t, err, ctf.ReasonScenarioPreprocess, ctf.Internal, "main.go:3")
}

func TestOpenDirectoryThatIsNone(t *testing.T) {
	t.Parallel()
	if _, err := scenario.OpenDirectory(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	_, err := scenario.OpenDirectory(t.Context(), t.TempDir())
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "Pulumi.yaml")
	dir := writeDir(t, map[string]string{"Pulumi.yaml": prebuilt["Pulumi.yaml"]})
	_, err = scenario.OpenDirectory(t.Context(), dir)
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "main")
	if err := os.Symlink("/bin/sh", filepath.Join(dir, "main")); err != nil {
		t.Fatal(err)
	}
	_, err = scenario.OpenDirectory(t.Context(), dir)
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "main")
}
