package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// markerVariable carries the marker of a record.
	markerVariable = "MAYFLY_MARKER"
	// portVariable carries the port that the program is to listen on.
	portVariable = "PORT"
	// defaultPath is where programs are looked for if our own environment does
	// not say.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// tailBytes is how much of a program's output goes into an error.
	tailBytes = 2000
)

// keepOutput copies standard input to the file $2 up to $1 blocks of 512 bytes
// and drops the rest. The program never notices: a tee that may write no more
// to one file goes on with the other, and the limit is the tee's alone. It
// ignores SIGTERM to keep a program's last words; it ends when nobody can
// write to it any more. It is a process of its own because it must outlive
// Mayfly.
const keepOutput = `trap '' XFSZ TERM INT HUP; ulimit -c 0; ulimit -f "$1"; exec tee -- "$2" >/dev/null 2>&1`

// A started program can be waited for as long as the process that started it
// lives.
type started struct {
	process pidStart
	// ended is closed when the program has, after err was set.
	ended chan struct{}
	err   error
	// logged is closed when all of its output is in the log.
	logged chan struct{}
}

// start runs the program in a session of its own and does not wait for it. The
// two goroutines it leaves behind reap the children; they end with them, or
// with this process.
func start(ctx context.Context, pl place, in inputs, rec record, maxOutput int64) (*started, error) {
	path, err := in.executable(pl.work())
	if err != nil {
		return nil, err
	}
	starting, err := lock(ctx, pl.starting())
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", pl.id(), err)
	}
	defer starting.Close()
	output, err := startLog(pl, maxOutput)
	if err != nil {
		return nil, err
	}
	defer output.writer.Close()
	args, env := in.withPort(rec.Port)
	cmd := exec.Command(path, args...) //nolint:noctx // It outlives every context of ours.
	cmd.Dir = pl.work()
	cmd.Env = append([]string{"PATH=" + searchPath(), markerVariable + "=" + rec.Marker}, env...)
	cmd.Stdout, cmd.Stderr = output.writer, output.writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A program that outlives us must not hold files that we were started with.
	// What we open ourselves is closed anyway, so a kernel before 5.11, which
	// can't do this, is no reason to stop.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", in.command, plainCause(err))
	}
	s := &started{ended: make(chan struct{}), logged: output.done}
	// Not reaped yet, so the pid is still its own, even if it has ended.
	st, err := readStat(cmd.Process.Pid)
	s.process = st.pidStart
	go func() {
		defer close(s.ended)
		s.err = cmd.Wait()
	}()
	return s, err
}

// logPipe is where a program writes to.
type logPipe struct {
	writer *os.File
	done   chan struct{}
}

func startLog(pl place, maxOutput int64) (logPipe, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return logPipe{}, fmt.Errorf("start the log: %w", err)
	}
	defer reader.Close()
	blocks := max(maxOutput/512, 1)
	//nolint:noctx // It outlives every context of ours.
	cmd := exec.Command("/bin/sh", "-c", keepOutput, "sh", fmt.Sprint(blocks), pl.log())
	cmd.Dir = "/"
	// Without the marker: it is not stopped with the program but ends after it.
	cmd.Env = []string{"PATH=" + searchPath()}
	cmd.Stdin = reader
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		writer.Close()
		return logPipe{}, fmt.Errorf("start the log: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	return logPipe{writer: writer, done: done}, nil
}

// executable returns the path of what the command names: one of the files, an
// absolute path, or a program on the search path.
func (in inputs) executable(work string) (string, error) {
	if name, ok := in.commandFile(); ok {
		return filepath.Join(work, filepath.FromSlash(name)), nil
	}
	if filepath.IsAbs(in.command) {
		return in.command, runnable(in.command)
	}
	if strings.Contains(in.command, "/") {
		return "", fmt.Errorf("%s is not one of the files; give it there, or use an absolute path", in.command)
	}
	for _, dir := range filepath.SplitList(searchPath()) {
		path := filepath.Join(dir, in.command)
		if filepath.IsAbs(dir) && runnable(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is neither one of the files nor a program on the search path", in.command)
}

func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, plainCause(err))
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}

func searchPath() string { return cmp.Or(os.Getenv("PATH"), defaultPath) }

// writeFiles puts the working files in place.
func writeFiles(work string, in inputs) error {
	command, _ := in.commandFile()
	for name, a := range in.files {
		mode := os.FileMode(0o644)
		source, isPath := a.GetPath()
		if info, err := os.Stat(source); isPath && err == nil && info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		// Registries do not keep modes, so the command is made executable.
		if name == command {
			mode = 0o755
		}
		blob, err := a.Read()
		if err != nil {
			return fmt.Errorf("read the file %s: %w", name, err)
		}
		err = writeFile(filepath.Join(work, filepath.FromSlash(name)), blob, mode)
		if err := errors.Join(err, blob.Close()); err != nil {
			return fmt.Errorf("write the file %s: %w", name, err)
		}
	}
	return nil
}

func writeFile(path string, content io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	// The mask of the process must not take the mode away.
	return errors.Join(err, file.Chmod(mode), file.Close())
}

// waitReady returns once the port answers. ended tells that the program did;
// nil is a program that this process did not start.
func waitReady(ctx context.Context, process pidStart, port int, ended <-chan struct{}) error {
	dialer := net.Dialer{Timeout: time.Second}
	wait := 2 * time.Millisecond
	for {
		select {
		case <-ended:
			return errEnded
		default:
		}
		conn, err := dialer.DialContext(ctx, "tcp", address(port))
		if err == nil {
			conn.Close()
		}
		switch {
		case !process.alive():
			return errEnded // whoever answered, it was not the program
		case err == nil:
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}

// errEnded says that a program ended before its port answered.
var errEnded = errors.New("the program ended before it was ready")

// errNotReady says that a program's time to get ready is over.
var errNotReady = errors.New("the program does not answer")

// tail returns the last of what a program printed.
func (pl place) tail() string {
	file, err := os.Open(pl.log())
	if err != nil {
		return ""
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-tailBytes), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(file, tailBytes))
	return strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
}

// plainCause leaves out the path and the call, which say nothing to an author.
func plainCause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}
