package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// challenge is a scenario without code.
const challenge = `name: web
containers:
  web:
    image: registry.example/web:1
    ports: [{port: 8080, expose: ingress}]
    files:
      /srv/page: {from: pages/index.html}
`

func TestManifest(t *testing.T) {
	t.Parallel()
	files := map[string]string{manifest.File: challenge, "pages/index.html": "hello"}
	pushed := push(t, startRegistry(t)+"/web:1", files)
	cache := t.TempDir()
	for _, how := range []string{"fetched", "from the cache"} {
		c := open(t, newLibrary(t, scenario.Options{CacheDir: cache}), pushed)
		if c.Project != "web" || !c.Manifest || c.Binary != "" {
			t.Errorf("%s: got project %q, manifest %t, binary %q", how, c.Project, c.Manifest, c.Binary)
		}
		if _, err := manifest.Load(c.Dir); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	local, err := scenario.OpenDirectory(t.Context(), writeDir(t, files))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if local.Project != "web" || !local.Manifest || local.Binary != "" {
		t.Errorf("the directory is %+v", local)
	}
	if open(t, newLibrary(t, scenario.Options{}), push(t, startRegistry(t)+"/s:1", prebuilt)).Manifest {
		t.Error("a program is no manifest")
	}
}

func TestManifestIsRefused(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	linked := writeDir(t, map[string]string{manifest.File: strings.Replace(challenge, "pages/index.html", "up/passwd", 1)})
	if err := os.Symlink("/etc", filepath.Join(linked, "up")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ dir, says string }{
		"a mistake":      {writeDir(t, map[string]string{manifest.File: "name: web\ncontainer: {}\n"}), "mayfly.yaml:2:1: container: there is no key"},
		"a file is gone": {writeDir(t, map[string]string{manifest.File: challenge}), "mayfly.yaml:7:25: "},
		"a link":         {linked, "mayfly.yaml:7:25: "},
		"both": {writeDir(t, map[string]string{manifest.File: challenge, "pages/index.html": "", "Pulumi.yaml": "name: web\nruntime: go\n"}),
			"both a Pulumi.yaml and a mayfly.yaml"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := scenario.OpenDirectory(t.Context(), test.dir)
			if ctf.ReasonOf(err) != ctf.ReasonScenarioMismatch || !strings.Contains(err.Error(), test.says) {
				t.Errorf("opened: error is %v, want one that says %q", err, test.says)
			}
			if name == "a link" {
				return // which is refused before
			}
			_, err = scenario.Push(t.Context(), test.dir, host+"/s:1", plain(t))
			if ctf.ReasonOf(err) != ctf.ReasonScenarioMismatch || !strings.Contains(err.Error(), test.says) {
				t.Errorf("pushed: error is %v, want one that says %q", err, test.says)
			}
		})
	}
}
