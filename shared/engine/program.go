package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// programTail is how much of a program's output is kept, in bytes.
	programTail = 16 << 10
	// lastLines is how many of the last lines are shown for a failure.
	lastLines = 5
	// programFiles is how many files a program may have open.
	programFiles = 256
	// programPoll is how often a program's time is looked at.
	programPoll = 50 * time.Millisecond
)

// A program is one run of a scenario's binary, confined: it reads its own
// directory and the system's libraries, writes a little to a temporary
// directory, connects to its two ports, listens for the engine, and does nothing
// else.
type program struct {
	binary, dir string
	temporary   scratch
	env         []string
	ports       []uint16 // on loopback, all it may connect to
	memory      uint64   // bytes
	timeout     time.Duration
	watch       *stopwatch
	started     func(group int) error
}

// An exitError says that a program ended with another code than 0.
type exitError struct {
	code   int
	detail string
}

func (e *exitError) Error() string { return e.detail }

// run runs the program until it ends, ctx does or its time is up, and kills
// whatever it leaves. The error says in plain words why it did not succeed.
func (p program) run(ctx context.Context) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	output, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	said := &transcript{tail: tail{limit: programTail}}
	var copied sync.WaitGroup
	copied.Go(func() { _, _ = output.WriteTo(said) }) // until the last writer is killed
	result := make(chan error, 1)
	go func() { // its end is the result
		lockToOwnThread(func() { result <- p.onThisThread(ctx, null, theirs) })
	}()
	err = <-result
	_ = output.SetReadDeadline(time.Now().Add(time.Second)) // for a child that escaped its group
	copied.Wait()
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		if failed := notLoaded(exit, said.String()); failed != nil {
			return failed
		}
		exit.detail = explain(exit, said, p.memory)
	}
	return err
}

// lockToOwnThread calls f on a thread that is never unlocked: it may be
// confined, and dies with the calling goroutine. It outlives f, and with it any
// program that f started, whose death it would cause. It is not the process's
// main thread, by whose credentials the kernel judges who may send the process a
// signal.
func lockToOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	defer runtime.UnlockOSThread()
	var other sync.WaitGroup
	other.Go(func() { lockToOwnThread(f) }) // on another: we keep this one
	other.Wait()
}

// onThisThread confines the calling thread, starts the program from it and
// waits for the end. It closes output.
func (p program) onThisThread(ctx context.Context, input, output *os.File) error {
	defer output.Close()
	ticket, err := newTicket()
	if err != nil {
		return err
	}
	if err := confine(p, ticket); err != nil {
		return fmt.Errorf("confine the program: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary) // guard kills it, with its group
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.dir, p.env, input, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: int(ticket) << 32, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return notStarted(p.binary, err)
	}
	group := cmd.Process.Pid
	ended, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- p.guard(ctx, group, ended) }()
	err = errors.Join(p.limit(group), p.started(group))
	if err != nil {
		_ = unix.Kill(-group, unix.SIGKILL)
	}
	// Until it is reaped its number can't be another's.
	for unix.Waitid(unix.P_PID, group, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-group, unix.SIGKILL)
	close(ended)
	stopped := <-watched
	waitErr := cmd.Wait()
	switch {
	case err != nil:
		return fmt.Errorf("prepare the program: %w", err)
	case stopped != nil:
		return stopped
	case waitErr != nil && cmd.ProcessState == nil:
		return fmt.Errorf("wait for the program: %w", waitErr)
	case !cmd.ProcessState.Success():
		return &exitError{code: cmd.ProcessState.ExitCode(), detail: cmd.ProcessState.String()}
	}
	return nil
}

// limit bounds what the program may use. It has run for a moment by then, but
// under Landlock already.
func (p program) limit(pid int) error {
	disk := uint64(0)
	if landlockABI() > 0 {
		disk = scratchSize // else nothing keeps it to its directory
	}
	for resource, value := range map[int]uint64{
		unix.RLIMIT_DATA: p.memory, unix.RLIMIT_NOFILE: programFiles,
		unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: disk,
	} {
		err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		if err != nil && err != unix.ESRCH {
			return fmt.Errorf("limit its resources: %w", err)
		}
	}
	return nil
}

// guard kills the program when it must not go on, and says why it did.
func (p program) guard(ctx context.Context, group int, ended <-chan struct{}) error {
	tick := time.NewTicker(programPoll)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			_ = unix.Kill(-group, unix.SIGKILL)
			return errors.New("the program was stopped")
		case <-tick.C:
			if err := p.temporary.check(); err != nil {
				_ = unix.Kill(-group, unix.SIGKILL)
				return err
			}
			if p.watch.elapsed() > p.timeout {
				_ = unix.Kill(-group, unix.SIGKILL)
				return fmt.Errorf("the program did not end within its time limit of %s", p.timeout)
			}
		}
	}
}

// explain says why a program failed: the first line of a crash, else the last
// lines it printed.
func explain(exit *exitError, said *transcript, memory uint64) string {
	crash := plain(said.crash)
	if message, ok := strings.CutPrefix(crash, panicPrefix); ok {
		return "the program panicked: " + strings.TrimSuffix(message, " [recovered]")
	}
	if message, ok := strings.CutPrefix(crash, fatalPrefix); ok {
		if strings.Contains(message, "memory") {
			return fmt.Sprintf("the program ran out of memory, it may use %d MiB", memory>>20)
		}
		return "the program crashed: " + message
	}
	if strings.HasPrefix(crash, bigFilePrefix) {
		return errTooMuch.Error()
	}
	reason := "the program ended with " + exit.detail
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	lines = lines[max(0, len(lines)-lastLines):]
	for i, line := range lines { // each a part of what a message may be, so that the last is in it
		if most := maxWordSize/lastLines - len("…\n"); len(line) > most {
			lines[i] = strings.ToValidUTF8(line[:most], "") + "…"
		}
	}
	if last := plain(strings.Join(lines, "\n")); last != "" {
		reason += ": " + last
	}
	return reason
}
