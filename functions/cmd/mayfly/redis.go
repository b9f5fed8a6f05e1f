package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

const (
	// redisStart is how long a redis-server may take to load its file and answer.
	redisStart = 30 * time.Second
	// redisPause is the wait before a redis-server that died is started again.
	redisPause = time.Second
	socketLink = "socket"
)

// A redisChild is a redis-server of our own: persistent, reachable through a
// socket that only this user can open, and started again if it dies.
type redisChild struct {
	URL    string
	dir    string // holds the socket; short, because a socket's path is limited to 107 bytes
	link   string // leads to the socket from where the data is, see runningRedis
	cancel context.CancelFunc
	done   chan struct{}
}

// startRedis runs redis-server over the data in dir. The server inherits lock,
// so that nobody else uses dir while it lives, even if we die first.
func startRedis(ctx context.Context, program, dir string, lock *os.File, log *slog.Logger) (*redisChild, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for redis: %w", err)
	}
	sockets, err := os.MkdirTemp("", "mayfly-redis-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the socket of redis: %w", err)
	}
	socket, link := filepath.Join(sockets, "redis.sock"), filepath.Join(dir, socketLink)
	if old, err := os.Readlink(link); err == nil { // of one that was killed
		_ = os.Remove(old)
		_ = os.Remove(filepath.Dir(old))
		_ = os.Remove(link)
	}
	if err := os.Symlink(socket, link); err != nil {
		return nil, fmt.Errorf("tell where the socket of redis is: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	child := &redisChild{URL: "unix://" + socket, dir: sockets, link: link, cancel: cancel, done: make(chan struct{})}
	command := func() *exec.Cmd {
		cmd := exec.CommandContext(running, program,
			"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
			"--dir", dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
			"--maxmemory-policy", "noeviction", "--logfile", filepath.Join(dir, "redis.log"))
		cmd.Env = []string{}
		cmd.ExtraFiles = []*os.File{lock}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		// Its own process group: a Ctrl-C at the terminal is for us, and redis is
		// needed until we are done.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		return cmd
	}
	go child.supervise(running, command, log)
	if err := awaitRedis(ctx, child.URL); err != nil {
		child.Stop()
		return nil, fmt.Errorf("%w; its log is %s", err, filepath.Join(dir, "redis.log"))
	}
	return child, nil
}

// supervise keeps the server running. It stays on one thread, because the
// server is told to end when the thread that started it does.
func (c *redisChild) supervise(ctx context.Context, command func() *exec.Cmd, log *slog.Logger) {
	defer close(c.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		err := command().Run()
		if ctx.Err() != nil {
			return
		}
		log.ErrorContext(ctx, "redis-server ended and is started again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(redisPause):
		}
	}
}

// Stop ends the server and waits until its data is on disk.
func (c *redisChild) Stop() {
	c.cancel()
	<-c.done
	_ = os.Remove(c.link)
	_ = os.RemoveAll(c.dir) // a socket in a temporary directory
}

// runningRedis returns the address of the redis-server that another process has
// started over the data in dir.
func runningRedis(dir string) (url string, err error) {
	socket, err := os.Readlink(filepath.Join(dir, socketLink))
	return "unix://" + socket, err
}

// awaitRedis waits until a server answers; while it loads its file it says so.
func awaitRedis(ctx context.Context, url string) error {
	options, err := redis.ParseURL(url)
	if err != nil {
		return fmt.Errorf("redis address: %w", err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisStart)
	defer cancel()
	for {
		err := client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", errors.Join(err, context.Cause(ctx)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// embeddedRedis is for a machine without redis-server: it forgets everything
// when it stops.
func embeddedRedis() (url string, stop func(), err error) {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		return "", nil, fmt.Errorf("start the embedded redis: %w", err)
	}
	return "redis://" + server.Addr(), server.Close, nil
}
