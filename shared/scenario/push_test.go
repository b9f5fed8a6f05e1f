package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func TestPushIsDeterministic(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	files := with(map[string]string{"z/a": "same", "a/z": "same", ".hidden": "kept"})
	first := push(t, host+"/s:1", files)
	dir := writeDir(t, files)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "main"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "main"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".git", "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".git", "HEAD"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := scenario.Push(t.Context(), dir, host+"/other:2", plain(t))
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != second.Digest {
		t.Errorf("digests of equal directories are %s and %s", first.Digest, second.Digest)
	}
	c := open(t, newLibrary(t, scenario.Options{}), second)
	for _, name := range []string{"z/a", "a/z", ".hidden"} {
		if _, err := os.Stat(filepath.Join(c.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	linked := writeDir(t, prebuilt)
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "link")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		dir, reference string
		reason         ctf.Reason
		says           string
	}{
		"no tag":       {writeDir(t, prebuilt), host + "/s", ctf.ReasonReferenceMalformed, "with a tag"},
		"a digest":     {writeDir(t, prebuilt), host + "/s:1@sha256:" + strings.Repeat("0", 64), ctf.ReasonReferenceMalformed, "without a digest"},
		"no registry":  {writeDir(t, prebuilt), "s:1", ctf.ReasonReferenceMalformed, "no registry"},
		"a link":       {linked, host + "/s:1", ctf.ReasonScenarioMismatch, "link is not a regular file"},
		"no project":   {writeDir(t, map[string]string{"main.go": ""}), host + "/s:1", ctf.ReasonScenarioMismatch, "no Pulumi.yaml"},
		"no directory": {filepath.Join(linked, "gone"), host + "/s:1", ctf.ReasonInternal, "gone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := scenario.Push(t.Context(), test.dir, test.reference, plain(t))
			if ctf.ReasonOf(err) != test.reason || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error is %v, want reason %s that says %q", err, test.reason, test.says)
			}
		})
	}
}

func TestPushReachesNamedRegistriesOverPlainHTTP(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	dir := writeDir(t, prebuilt)
	how := plain(t)
	how.Insecure = false
	if _, err := scenario.Push(t.Context(), dir, host+"/s:1", how); ctf.ReasonOf(err) != ctf.ReasonOCIInteraction {
		t.Errorf("plain HTTP was used without leave: %v", err)
	}
	how.PlainHTTP = []string{host}
	if _, err := scenario.Push(t.Context(), dir, host+"/s:1", how); err != nil {
		t.Error(err)
	}
}
