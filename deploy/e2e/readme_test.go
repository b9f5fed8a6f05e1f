//go:build cluster

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// documented returns the commands of README.md that stand together with one that
// begins so, a line each.
func documented(t testing.TB, with string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	check(t, err)
	var found, block []string
	for line := range strings.Lines(string(text) + "\n") {
		if command, indented := strings.CutPrefix(line, "    "); indented {
			block = append(block, strings.TrimSpace(command))
			continue
		}
		if slices.ContainsFunc(block, func(line string) bool { return strings.HasPrefix(line, with) }) {
			if found != nil {
				t.Fatalf("README.md has %q in two blocks", with)
			}
			found = block
		}
		block = nil
	}
	if found == nil {
		t.Fatalf("README.md does not have %q", with)
	}
	return found
}

// cut returns the lines up to the one that begins so, with it, and the others.
func cut(t testing.TB, lines []string, begin string) (until, after []string) {
	t.Helper()
	n := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, begin) })
	if n < 0 {
		t.Fatalf("no line begins with %q", begin)
	}
	return lines[:n+1], lines[n+1:]
}

// A shell is where somebody types the commands of the README, whose names
// are others here.
type shell struct {
	dir   string // empty is the repository's
	path  string // a directory of programs that may not be there
	env   []string
	names *strings.Replacer
}

// prelude finds kubectl where KUBECTL says, and the Makefile in any directory.
const prelude = `
kubectl() { command "${KUBECTL:-kubectl}" "$@"; }
make() { command make --no-print-directory -C "$ROOT" "$@"; }
set -x
`

// run gives the commands in their order, and fails with the first that fails. It
// returns what they say.
func (s shell) run(t testing.TB, lines []string) string {
	t.Helper()
	absolute, err := filepath.Abs(root)
	check(t, err)
	command := newCommand(t, "bash", "-eo", "pipefail", "-c", prelude+s.names.Replace(strings.Join(lines, "\n")))
	command.Dir = absolute
	if s.dir != "" {
		command.Dir = s.dir
	}
	command.Env = append(slices.Clone(s.env), "ROOT="+absolute, "PATH="+os.Getenv("PATH")+":"+s.path)
	began := time.Now()
	out, err := command.CombinedOutput()
	t.Logf("in %v:\n%s", time.Since(began).Round(time.Second), out)
	check(t, err)
	return string(out)
}

// newCommand is one that is interrupted with all that it has started when it
// takes too long.
func newCommand(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), upWithin)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, program, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return interrupt(command) }
	return command
}

// interrupt is what Ctrl-C does at a terminal.
func interrupt(command *exec.Cmd) error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }

// terminal is the shell of who manages the installation.
func (i *installation) terminal(t testing.TB) shell {
	t.Helper()
	return shell{env: i.environment(t), names: i.ourNames(t)}
}

// environment has for make what is different in a test.
func (i *installation) environment(t testing.TB) []string {
	t.Helper()
	i.buildOnce(t)
	var set []string
	for _, arg := range settings(i.Cluster) {
		if arg != "--set" {
			set = append(set, arg)
		}
	}
	return append(os.Environ(), "NAMESPACE="+i.namespace, "SET="+strings.Join(set, ","), "MAYFLY_TOKEN="+i.token)
}

// ourNames are those of the installation for those of the README.
func (i *installation) ourNames(t testing.TB) *strings.Replacer {
	t.Helper()
	return strings.NewReplacer("-n mayfly", "-n "+i.namespace, ".mayfly.svc.", "."+i.namespace+".svc.",
		"registry.example/ctf", clustertest.Registry(t)+"/mayfly-test")
}
