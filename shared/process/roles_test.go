package process_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	"github.com/mayfly-ctf/mayfly/shared/process"
)

// roleVariable makes the test binary play one of the programs that the tests
// start.
const roleVariable = "TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func(){
		"serve":    serve,
		"silent":   func() { fmt.Fprintln(os.Stdout, "I shall not listen"); select {} },
		"exit":     func() { fmt.Fprintln(os.Stdout, "no riddle today"); os.Exit(3) },
		"noisy":    noisy,
		"family":   family,
		"stubborn": func() { signal.Ignore(syscall.SIGTERM); serve() },
		"headless": headless,
		"mayfly":   mayfly,
	}
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		role()
		return
	}
	os.Exit(m.Run())
}

// serve greets whoever connects.
func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	must(err)
	for {
		conn, err := listener.Accept()
		must(err)
		fmt.Fprintf(conn, "hello from %d\n", os.Getpid())
		conn.Close()
	}
}

// headless goes on when the thread that the process began with has ended.
func headless() {
	go serve()
	_, _, err := syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	must(fmt.Errorf("end the first thread: %w", err))
}

// init keeps headless on the first thread, where main begins.
func init() { //nolint:gochecknoinits // later it may be on another one
	if os.Getenv(roleVariable) == "headless" {
		runtime.LockOSThread()
	}
}

// noisy prints far more than is kept, and then works as if nothing was.
func noisy() {
	chunk := bytes.Repeat([]byte("word "), 1<<16)
	for range 64 {
		_, err := os.Stdout.Write(chunk)
		must(err)
	}
	serve()
}

// family has a child in the same session that lost the marker, and one with
// the marker in a session of its own. Both have another child whenever one of
// theirs ends.
func family() {
	for _, own := range []bool{false, true} {
		cmd := exec.Command("/bin/sh", "-c", "while :; do sleep 600; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: own}
		if !own {
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		}
		must(cmd.Start())
		file, err := os.OpenFile("children", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		must(err)
		fmt.Fprintln(file, cmd.Process.Pid)
		must(file.Close())
	}
	serve()
}

// mayfly is what is killed in the middle of its work: it creates one program
// after another, and says so.
func mayfly() {
	p, err := process.NewProvider(process.Options{Directory: os.Getenv("TEST_DIRECTORY")})
	must(err)
	for i := range 100 {
		fmt.Fprintln(os.Stdout, "creating")
		_, err := p.Create(context.Background(), plugin.CreateRequest{
			URN:        urn("5eed5eed5eed5eed", fmt.Sprintf("program-%d", i)),
			Properties: role("serve"),
		})
		must(err)
		fmt.Fprintln(os.Stdout, "created")
	}
	select {}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
}

// carriers returns the pids of all processes that work below a directory.
func carriers(t *testing.T, dir string) []string {
	t.Helper()
	return having(t, "cwd", os.Readlink, func(target string) bool { return strings.HasPrefix(target, dir+"/") })
}

// loggers returns the pids of all processes that were started to write below a
// directory.
func loggers(t *testing.T, dir string) []string {
	t.Helper()
	read := func(path string) (string, error) {
		text, err := os.ReadFile(path)
		return string(text), err
	}
	return having(t, "cmdline", read, func(line string) bool { return strings.Contains(line, dir+"/") })
}

func having(
	t *testing.T, file string, read func(string) (string, error), holds func(string) bool,
) (pids []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if text, err := read(path); err == nil && holds(text) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}
