package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// buildCommand makes a program that runs wherever Mayfly does.
const buildCommand = "build it with 'CGO_ENABLED=0 GOOS=linux go build -ldflags=\"-s -w\" -o main .'"

func byPlace(a, b manifest.Finding) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Rule, b.Rule))
}

// lintProgram looks at the directory of a scenario that a program describes.
func lintProgram(dir string) []manifest.Finding {
	program, err := scenario.Inspect(dir)
	switch {
	case err != nil:
		return []manifest.Finding{finding(manifest.SeverityError, "not-a-scenario", mismatch(err), "correct what is said, and lint again")}
	case program == "":
		return []manifest.Finding{finding(manifest.SeverityWarning, "source",
			"the scenario is Go source, which only a server with a Go toolchain can run, and starts late the first time",
			buildCommand+", and name it in Pulumi.yaml: runtime: {name: go, options: {binary: ./main}}")}
	}
	found := lintBinary(program)
	slices.SortStableFunc(found, byPlace)
	return append([]manifest.Finding{}, found...)
}

// mismatch is what is wrong with the directory, without more words around it.
func mismatch(err error) string {
	_, details := describe(err)
	if lines := explanations("", details); len(lines) > 0 {
		return strings.TrimPrefix(lines[0], "scenario: ")
	}
	return err.Error()
}

// lintBinary looks at the program itself.
func lintBinary(path string) []manifest.Finding {
	name := filepath.Base(path)
	file, err := elf.Open(path)
	if err != nil {
		return []manifest.Finding{finding(manifest.SeverityError, "not-linux", name+" is no Linux program: "+err.Error(), buildCommand)}
	}
	defer func() { _ = file.Close() }()
	if file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN {
		return []manifest.Finding{finding(manifest.SeverityError, "not-linux",
			fmt.Sprintf("%s is no program, but %s", name, file.Type), buildCommand)}
	}
	var found []manifest.Finding
	if architecture := architectureOf(file.Machine); architecture != runtime.GOARCH {
		found = append(found, finding(manifest.SeverityWarning, "architecture",
			fmt.Sprintf("%s is for %s, and this machine is %s", name, architecture, runtime.GOARCH),
			"build it with the GOARCH of the server that will run it"))
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		found = append(found, finding(manifest.SeverityWarning, "dynamic",
			name+" needs libraries of the machine that it was built on; the server may not have them", buildCommand))
	}
	if file.Section(".symtab") != nil {
		found = append(found, finding(manifest.SeverityInfo, "symbols",
			name+" has symbols for a debugger: it is a third larger than it must be", buildCommand))
	}
	return found
}

// architectureOf returns Go's name of a machine.
func architectureOf(machine elf.Machine) string {
	switch machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
}

// finding is about the directory as a whole.
func finding(severity manifest.Severity, rule, message, fix string) manifest.Finding {
	return manifest.Finding{Line: 1, Column: 1, Severity: severity, Rule: rule, Message: message, Fix: fix}
}
