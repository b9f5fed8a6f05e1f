package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	buildTimeout = 5 * time.Minute
	maxOutput    = 8 << 10 // bytes of the compiler's output that are kept, from its end
)

// advice is for authors who push source where it can't be compiled.
const advice = "build the program with 'CGO_ENABLED=0 go build -o main .', name it in Pulumi.yaml " +
	"(runtime: {name: go, options: {binary: ./main}}), and push the directory again"

// compile builds the Go program in dir and writes it to out. On failure it
// returns what the author should read.
func compile(ctx context.Context, dir, out string) (output string, err error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "The scenario is Go source, and this server has no Go toolchain to compile it: " + advice + ".", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout,
		fmt.Errorf("compiling took longer than %s", buildTimeout))
	defer cancel()

	var printed tail
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-buildvcs=false", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = buildEnvironment(dir)
	cmd.Stdout, cmd.Stderr = &printed, &printed
	// The compilers that go starts end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
		return err.Error() + ": " + advice, err
	}
	return printed.String(), err
}

// buildEnvironment holds what go needs and none of the server's secrets.
func buildEnvironment(dir string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	flags := os.Getenv("GOFLAGS")
	if _, err := os.Stat(filepath.Join(dir, "vendor", "modules.txt")); errors.Is(err, os.ErrNotExist) {
		// An incomplete go.mod or go.sum is completed.
		flags += " -mod=mod"
	}
	return append(env, "GOFLAGS="+strings.TrimSpace(flags), "GOWORK=off", "CGO_ENABLED=0")
}

// A tail keeps the last bytes that were written to it.
type tail struct{ buf bytes.Buffer }

// Write keeps the end of p and never fails.
func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > maxOutput {
		p = p[n-maxOutput:]
	}
	if over := t.buf.Len() + len(p) - maxOutput; over > 0 {
		t.buf.Next(over)
	}
	t.buf.Write(p)
	return n, nil
}

// String returns what was kept.
func (t *tail) String() string { return strings.ToValidUTF8(strings.TrimSpace(t.buf.String()), "?") }
