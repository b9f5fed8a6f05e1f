package main_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A tryRun is `mayfly scenario try` in a process of its own.
type tryRun struct {
	tb          testing.TB
	cmd         *exec.Cmd
	out         *output // where to connect
	diagnostics *output // what goes on
	exited      chan struct{}
}

// tryEnvironment is that of a user with an empty home directory.
func tryEnvironment(tb testing.TB, env ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir()}, env...)
}

// startTry starts a try, which is killed after the test.
func startTry(tb testing.TB, env []string, args ...string) *tryRun {
	tb.Helper()
	r := &tryRun{tb: tb, out: &output{}, diagnostics: &output{}, exited: make(chan struct{})}
	r.cmd = exec.Command(build(tb, ".", programFlags()...), append([]string{"scenario", "try"}, args...)...)
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = env, r.out, r.diagnostics
	if err := r.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // how it ended is the test's business
		close(r.exited)
	}()
	tb.Cleanup(r.kill)
	return r
}

// ready waits until the instance is there and returns where to connect.
func (r *tryRun) ready() string {
	r.tb.Helper()
	eventually(r.tb, "the try is ready", func() error {
		select {
		case <-r.exited:
			r.tb.Fatalf("it ended:\n%s%s", r.out, r.diagnostics)
		default:
		}
		if !strings.Contains(r.diagnostics.String(), "Ready after") || !strings.Contains(r.out.String(), "\nidentity") { // each comes by a pipe of its own
			return errors.New(r.diagnostics.String())
		}
		return nil
	})
	return r.field("connect")
}

// field is what a line of the output says.
func (r *tryRun) field(name string) string {
	r.tb.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` +(\S.*)$`).FindStringSubmatch(r.out.String())
	if found == nil {
		r.tb.Fatalf("no %s in:\n%s", name, r.out)
	}
	return found[1]
}

// interrupt is a Ctrl-C.
func (r *tryRun) interrupt() {
	r.tb.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		r.tb.Fatal(err)
	}
}

// wait waits for the end and checks the exit code.
func (r *tryRun) wait(code int) {
	r.tb.Helper()
	select {
	case <-r.exited:
	case <-time.After(patience):
		r.tb.Fatalf("it does not end:\n%s%s", r.out, r.diagnostics)
	}
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.tb.Fatalf("exit code %d, want %d:\n%s%s", got, code, r.out, r.diagnostics)
	}
}

func (r *tryRun) kill() {
	_ = r.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-r.exited
}

// serviceDirectory is a scenario whose instances are one small process each.
func serviceDirectory(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for file, program := range map[string]string{
		"main":    build(tb, "testdata/service/scenario", "-ldflags=-s -w"),
		"program": build(tb, "testdata/service/program", "-ldflags=-s -w"),
	} {
		if err := os.Link(program, filepath.Join(dir, file)); err != nil {
			tb.Fatal(err)
		}
	}
	project := "name: service\nruntime:\n  name: go\n  options:\n    binary: ./main\n"
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(project), 0o600); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// listening returns an error unless somebody does at the address.
func listening(address string) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

// wantSilence waits until nobody answers at the address.
func wantSilence(tb testing.TB, address string) {
	tb.Helper()
	eventually(tb, "nobody answers at "+address, func() error {
		if listening(address) == nil {
			return errors.New("somebody does")
		}
		return nil
	})
}

func TestTryOnThisMachine(t *testing.T) {
	t.Parallel()
	dir, env := serviceDirectory(t), tryEnvironment(t)
	run := startTry(t, env, dir, "--additional", "round=1")
	address := run.ready()
	if err := listening(address); err != nil {
		t.Errorf("nobody answers at %s: %v", address, err)
	}
	run.interrupt()
	run.wait(0)
	if !strings.Contains(run.diagnostics.String(), "nothing is left") {
		t.Errorf("it does not say that it is torn down:\n%s", run.diagnostics)
	}
	wantSilence(t, address)
}

func TestTrySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir, env := serviceDirectory(t), tryEnvironment(t)
	run := startTry(t, env, dir, "--additional", "command=./none")
	run.wait(1)
	for _, want := range []string{"does not come up", "none", "nothing is left"} {
		if !strings.Contains(run.diagnostics.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, run.diagnostics)
		}
	}
	run = startTry(t, env, t.TempDir())
	run.wait(1)
	if !strings.Contains(run.diagnostics.String(), "Pulumi.yaml") {
		t.Errorf("an empty directory:\n%s", run.diagnostics)
	}
	run = startTry(t, env, dir, "--kubernetes")
	run.wait(1)
	if !strings.Contains(run.diagnostics.String(), "--kubeconfig") {
		t.Errorf("without a cluster:\n%s", run.diagnostics)
	}
}

// A try that was killed leaves its instance, and the next one or --clean
// removes that; what somebody tries at the time stays.
func TestTryRemovesWhatWasLeft(t *testing.T) {
	t.Parallel()
	dir, env := serviceDirectory(t), tryEnvironment(t)
	killed, living := startTry(t, env, dir), startTry(t, env, dir)
	left, stays := killed.ready(), living.ready()
	killed.kill()
	if err := listening(left); err != nil {
		t.Errorf("an instance ends with who tries it: %v", err)
	}
	clean := startTry(t, env, "--clean")
	clean.wait(0)
	if said := clean.diagnostics.String(); !strings.Contains(said, killed.field("identity")) || strings.Contains(said, living.field("identity")) {
		t.Errorf("it says:\n%s", said)
	}
	wantSilence(t, left)
	if err := listening(stays); err != nil {
		t.Errorf("what is in use is removed: %v", err)
	}
	living.kill()
	next := startTry(t, env, dir)
	address := next.ready()
	wantSilence(t, stays)
	next.interrupt()
	next.wait(0)
	wantSilence(t, address)
	clean = startTry(t, env, "--clean")
	clean.wait(0)
	if !strings.Contains(clean.out.String(), "Nothing is left") {
		t.Errorf("a second --clean says:\n%s", clean.out)
	}
}
