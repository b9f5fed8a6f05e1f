package main

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

var update = flag.Bool("update", false, "write the golden files")

// TestLintManifests shows what authors read about their mistakes and dangers.
func TestLintManifests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"dangers", "files", "mistakes", "structure", "syntax", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", "lint", name)
			code, out, _ := mayfly(t, "scenario", "lint", dir)
			golden := filepath.Join(dir, "findings.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			wantCode := exitOK
			if strings.Contains(out, ": error: ") {
				wantCode = exitFailed
			}
			if code != wantCode {
				t.Errorf("exit code %d, want %d", code, wantCode)
			}
		})
	}
}

func TestLintStrictly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "lint", "dangers")
	if code, _, _ := mayfly(t, "scenario", "lint", dir); code != exitOK {
		t.Errorf("dangers alone: exit code %d", code)
	}
	if code, _, diagnostics := mayfly(t, "scenario", "lint", dir, "--strict"); code != exitFailed || !strings.Contains(diagnostics, "--strict takes none") {
		t.Errorf("with --strict: exit code %d: %s", code, diagnostics)
	}
	code, out, _ := mayfly(t, "scenario", "lint", filepath.Join(dir, manifest.File), "-o", "json")
	var r lintReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || len(r.Findings) == 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	if r.File != filepath.Join(dir, manifest.File) || r.Findings[0].Line == 0 || r.Findings[0].Rule == "" {
		t.Errorf("report is %+v", r)
	}
}

func TestPushRefusesABrokenManifest(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "lint", "files")
	_, findings, _ := mayfly(t, "scenario", "lint", dir)
	code, _, diagnostics := mayfly(t, "scenario", "push", dir, "127.0.0.1:1/x:1") // nothing answers there
	if code != exitFailed || !strings.HasPrefix(diagnostics, findings) || !strings.Contains(diagnostics, "nothing was pushed") {
		t.Errorf("exit code %d: %s", code, diagnostics)
	}
}

func TestLintProgram(t *testing.T) {
	t.Parallel()
	project := "name: x\nruntime: {name: go, options: {binary: ./main}}\n"
	source := "package main\n\nfunc main() {}\n"
	tests := map[string]struct {
		project, program string
		environment      []string
		flags            string
		rules            string
	}{
		"static":      {project: project, environment: []string{"CGO_ENABLED=0"}, flags: "-s -w", rules: ""},
		"symbols":     {project: project, environment: []string{"CGO_ENABLED=0"}, rules: "symbols"},
		"another OS":  {project: project, environment: []string{"CGO_ENABLED=0", "GOOS=windows"}, rules: "not-linux"},
		"a script":    {project: project, program: "#!/bin/sh\n", rules: "not-linux"},
		"source":      {project: "name: x\nruntime: go\n", rules: "source"},
		"no program":  {project: project, rules: "not-a-scenario"},
		"not of Go":   {project: "name: x\nruntime: python\n", rules: "not-a-scenario"},
		"not of YAML": {project: "{", rules: "not-a-scenario"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "Pulumi.yaml", test.project)
			if test.program != "" {
				write(t, dir, "main", test.program)
			}
			if test.environment != nil {
				from := t.TempDir()
				write(t, from, "main.go", source)
				build := exec.Command("go", "build", "-ldflags", test.flags, "-o", filepath.Join(dir, "main"), "main.go")
				build.Dir, build.Env = from, append(os.Environ(), test.environment...)
				if out, err := build.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
			r, err := lintScenario(dir)
			if err != nil {
				t.Fatal(err)
			}
			var rules []string
			for _, f := range r.Findings {
				rules = append(rules, f.Rule)
				if f.Message == "" || f.Fix == "" || f.Line != 1 {
					t.Errorf("finding %+v", f)
				}
			}
			if got := strings.Join(rules, " "); got != test.rules {
				t.Errorf("found %q, want %q: %+v", got, test.rules, r.Findings)
			}
		})
	}
}

func TestLintNothing(t *testing.T) {
	t.Parallel()
	if code, _, diagnostics := mayfly(t, "scenario", "lint", t.TempDir()); code != exitFailed || !strings.Contains(diagnostics, "mayfly scenario init") {
		t.Errorf("an empty directory: exit code %d: %s", code, diagnostics)
	}
	if code, _, diagnostics := mayfly(t, "scenario", "lint", filepath.Join(t.TempDir(), "none")); code != exitFailed || !strings.Contains(diagnostics, "no such file") {
		t.Errorf("no directory: exit code %d: %s", code, diagnostics)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
