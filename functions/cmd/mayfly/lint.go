package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

func newScenarioLintCommand(c *client) *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:   "lint [DIR|FILE]",
		Short: "Find mistakes and dangers in a scenario",
		Long: `Report every mistake and every danger in a scenario, with its line, how bad it
is, and what to do: in ` + manifest.File + `, or, where a program describes the scenario,
in its directory. Errors are exit code 1; with --strict warnings are, too.`,
		Example: `  mayfly scenario lint
  mayfly scenario lint ./hello --strict
  mayfly scenario lint ./hello/mayfly.yaml -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := "."
			if len(args) > 0 {
				path = args[0]
			}
			r, err := lintScenario(path)
			if err != nil {
				return err
			}
			if c.format == formatJSON {
				data, err := json.Marshal(r)
				if err != nil {
					return err
				}
				if err := printJSON(c.out, data); err != nil {
					return err
				}
			} else {
				r.write(c.out)
			}
			return r.verdict(strict)
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "let warnings fail, too")
	return cmd
}

// A lintReport is what was found in one file.
type lintReport struct {
	File     string             `json:"file"`
	Findings []manifest.Finding `json:"findings"`
}

// lintScenario looks at the scenario in a directory, or at a manifest.
func lintScenario(path string) (lintReport, error) {
	info, err := os.Stat(path)
	if err != nil {
		return lintReport{}, fmt.Errorf("lint: %w", err)
	}
	if !info.IsDir() {
		return lintManifest(path)
	}
	file := filepath.Join(path, manifest.File)
	if isFile(file) {
		r, err := lintManifest(file)
		if other, both := projectFile(path); both {
			r.Findings = slices.Insert(r.Findings, 0, finding(manifest.SeverityError, "two-scenarios",
				"the directory has "+filepath.Base(other)+" as well, and may be one scenario only", "move one of the two to another directory"))
		}
		return r, err
	}
	project, ok := projectFile(path)
	if !ok {
		return lintReport{}, fmt.Errorf("%s has neither %s nor Pulumi.yaml; begin a scenario with 'mayfly scenario init %[1]s'", path, manifest.File)
	}
	return lintReport{File: project, Findings: lintProgram(path)}, nil
}

// lintManifest looks at a manifest and at the files that it names.
func lintManifest(file string) (lintReport, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return lintReport{}, fmt.Errorf("lint: %w", err)
	}
	r := lintReport{File: file, Findings: append([]manifest.Finding{}, manifest.Lint(data)...)}
	if filepath.Base(file) != manifest.File {
		return r, nil
	}
	_, err = manifest.Load(filepath.Dir(file))
	if missing, ok := errors.AsType[*manifest.InvalidError](err); ok {
		for _, f := range missing.Findings {
			if !slices.Contains(r.Findings, f) {
				r.Findings = append(r.Findings, f)
			}
		}
	} else if err != nil {
		return lintReport{}, fmt.Errorf("lint: %w", err)
	}
	slices.SortStableFunc(r.Findings, byPlace)
	return r, nil
}

// projectFile returns the Pulumi project file of a directory, if it has one.
func projectFile(dir string) (string, bool) {
	for _, name := range []string{"Pulumi.yaml", "Pulumi.yml"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path, true
		}
	}
	return "", false
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// write writes the findings for people.
func (r lintReport) write(w io.Writer) {
	for _, f := range r.Findings {
		message := f.Message
		if f.Path != "" {
			message = f.Path + ": " + message
		}
		fmt.Fprintf(w, "%s:%d:%d: %s: %s (%s)\n", r.File, f.Line, f.Column, f.Severity, indent(message), f.Rule)
		if f.Fix != "" {
			fmt.Fprintf(w, "    fix: %s\n", indent(f.Fix))
		}
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(w, "%s: nothing to improve.\n", r.File)
	}
}

// count returns how many findings are of a severity.
func (r lintReport) count(severity manifest.Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// verdict is an error if the scenario can't be used, or is not strictly clean.
func (r lintReport) verdict(strict bool) error {
	mistakes, warnings := r.count(manifest.SeverityError), r.count(manifest.SeverityWarning)
	if mistakes == 0 && (warnings == 0 || !strict) {
		return nil
	}
	text := r.File + " has " + counted(mistakes, "error")
	switch {
	case mistakes == 0:
		text = r.File + " has " + counted(warnings, "warning") + ", and --strict takes none"
	case warnings > 0:
		text += " and " + counted(warnings, "warning")
	}
	return errors.New(text)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
