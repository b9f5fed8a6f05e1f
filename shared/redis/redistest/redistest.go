// Package redistest starts real Redis servers for tests: one alone, or a
// cluster of three. It knows the redis-server binary and loopback, and nothing
// of what is stored.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	startTimeout = 20 * time.Second
	pollEvery    = 10 * time.Millisecond
)

// A Server is a redis-server that lives as long as its test.
type Server struct {
	t       testing.TB
	command *exec.Cmd
	args    []string
	dir     string
	port    int
	exited  chan struct{} // closed once command was waited for
}

// Start starts a redis-server that keeps nothing on disk, on a free loopback
// port, and returns its URL. The server is killed when the test ends.
func Start(t testing.TB) string {
	t.Helper()
	return New(t).URL()
}

// New starts a redis-server with further arguments of its command line, such
// as "--appendonly", "yes"; the path of a configuration may come first. The
// server is killed when the test ends.
func New(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, args: args, dir: t.TempDir()}
	t.Cleanup(s.Kill)
	// Another process may take a free port before the server does.
	for attempt := 1; ; attempt++ {
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			return s
		}
		if attempt == 5 {
			t.Fatalf("start redis-server: %v\n%s", err, s.log())
		}
	}
}

// Replica starts a replica of the server, with further arguments, and returns it
// once it is in step. It is killed when the test ends.
func (s *Server) Replica(args ...string) *Server {
	s.t.Helper()
	replica := New(s.t, append([]string{"--replicaof", "127.0.0.1", strconv.Itoa(s.port)}, args...)...)
	client := redis.NewClient(&redis.Options{Addr: replica.address()})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		info, err := client.Info(ctx, "replication").Result()
		if err == nil && strings.Contains(info, "master_link_status:up") {
			return replica
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the replica does not get in step: %v %s", err, info)
		case <-time.After(pollEvery):
		}
	}
}

// URL returns the address of the server as redis://host:port.
func (s *Server) URL() string { return "redis://" + s.address() }

// Pause stops the process as it is, so that its clients wait for an answer.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume lets a paused process go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// Restart kills the process without a warning and starts it again on the same
// port and directory.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		s.t.Fatalf("restart redis-server: %v\n%s", err, s.log())
	}
}

// Kill ends the process without a warning. It may be called twice.
func (s *Server) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill() // it may be gone already
	<-s.exited
	s.command = nil
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal redis-server: %v", err)
	}
}

func (s *Server) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

func (s *Server) start() error {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("this test needs redis-server 6.2 or newer on PATH: apt-get install redis-server")
	}
	args := append(s.configuration(), []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", "redis.log",
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}...)
	args = append(args, s.args[len(s.configuration()):]...)
	command := exec.CommandContext(context.Background(), binary, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(exited)
		runtime.LockOSThread() // the kernel takes the end of the thread that started it for its parent's
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // killed on purpose, or seen by the ping below
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.command, s.exited = command, exited
	return s.waitForPing()
}

// configuration is the file among the arguments, which has to come first.
func (s *Server) configuration() []string {
	if len(s.args) > 0 && !strings.HasPrefix(s.args[0], "-") {
		return s.args[:1:1]
	}
	return nil
}

func (s *Server) waitForPing() error {
	client := redis.NewClient(&redis.Options{Addr: s.address(), MaxRetries: -1})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("redis-server ended at once: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", err)
		case <-time.After(pollEvery):
		}
	}
}

func (s *Server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "redis.log")) // for a message only
	return strings.TrimSpace(string(text))
}

// freePort returns a port that is free, and whose cluster bus port (10000
// higher) is free too.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := listen(0)
		if err != nil {
			t.Fatalf("look for a free port: %v", err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if port > 30000 {
			port -= 20000 // so that the bus port is a valid one
		}
		if free(port) && free(port+10000) {
			return port
		}
	}
	t.Fatal("no free port on loopback")
	return 0
}

func free(port int) bool {
	l, err := listen(port)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func listen(port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
