package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// grace is how long a canceled operation may take to come to an orderly end.
	grace = 5 * time.Second
	// patience is how long the engine waits for a worker beyond its grace.
	patience = 3 * time.Second
	// deadlinePoll is how often a moved deadline is sent on.
	deadlinePoll = 500 * time.Millisecond
	// workerTail is how much of a worker's standard error is kept for the log.
	workerTail = 8 << 10
)

// A worker is the engine's end of a worker process.
type worker struct {
	cmd     *exec.Cmd
	stderr  *tail
	orders  *os.File
	reports chan report   // closed when the worker's end of the pipe is
	quit    chan struct{} // closed when nobody receives reports any more
	gone    chan struct{} // closed when the process is
	exit    error         // why the process is gone; read after gone
	served  int
	group   int // the process group of the scenario program, 0 if none

	writing  sync.Mutex
	quitOnce sync.Once
}

// startWorker starts a process and waits until it is ready.
func startWorker(ctx context.Context, spawn *spawner, command, env []string) (*worker, error) {
	w := &worker{
		stderr: &tail{limit: workerTail}, reports: make(chan report), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	w.cmd = exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...) // ctx is that of its start
	w.cmd.Env = env
	w.cmd.Dir = "/" // Pulumi looks for a project file from here upwards
	w.cmd.Stderr = w.stderr
	w.cmd.WaitDelay = time.Second // what providers start may hold standard error open
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pipe, err := w.connect(spawn)
	if err != nil {
		return nil, err
	}
	go w.receive(pipe) // stop waits for it
	select {
	case first, ok := <-w.reports:
		if ok && first.Ready {
			return w, nil
		}
		w.stop()
		return nil, fmt.Errorf("the worker ended before it was ready: %w: %s", w.exit, w.stderr)
	case <-ctx.Done():
		w.kill()
		w.stop()
		return nil, fmt.Errorf("the worker was not ready in time: %w: %s", context.Cause(ctx), w.stderr)
	}
}

// connect starts the process with its ends of two pipes, and closes those here,
// so that the pipes end with the process.
func (w *worker) connect(spawn *spawner) (reports *os.File, err error) {
	theirOrders, orders, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer theirOrders.Close()
	reports, theirReports, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), orders.Close())
	}
	defer theirReports.Close()
	w.cmd.ExtraFiles = []*os.File{theirOrders, theirReports}
	if err := spawn.start(w.cmd); err != nil {
		return nil, errors.Join(err, orders.Close(), reports.Close())
	}
	w.orders = orders
	return reports, nil
}

func (w *worker) receive(pipe *os.File) {
	defer close(w.gone)
	defer pipe.Close()
	for {
		var r report
		if err := readFrame(pipe, &r); err != nil {
			break
		}
		select {
		case w.reports <- r:
			continue
		case <-w.quit:
		}
		break
	}
	close(w.reports)
	if w.exit = w.cmd.Wait(); w.exit == nil {
		w.exit = errors.New("exit status 0")
	}
}

func (w *worker) send(o order) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	return writeFrame(w.orders, o)
}

func (w *worker) alive() bool {
	select {
	case <-w.gone:
		return false
	default:
		return true
	}
}

// kill ends the process and the scenario program at once.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill() // it fails if the process is gone, which is as well
}

// stop lets an idle worker go, and a stubborn one not. It returns when the
// process is gone. It may be called twice.
func (w *worker) stop() {
	w.quitOnce.Do(func() { close(w.quit) })
	_ = w.orders.Close() // for the worker this is the end
	select {
	case <-w.gone:
	case <-time.After(patience):
		w.kill()
		<-w.gone
	}
	w.sweepGroup()
}

// sweepGroup kills what a scenario program left when the worker died before it
// could: the program itself died with the worker, its children did not.
func (w *worker) sweepGroup() {
	if w.group > 0 {
		_ = unix.Kill(-w.group, unix.SIGKILL)
		w.group = 0
	}
}

// run has the worker do a job. The journal is nil for a preview. healthy tells
// whether the worker may be used again.
func (w *worker) run(ctx context.Context, j job, journal ctf.Journal) (result outcome, healthy bool, err error) {
	w.served++
	c := &conversation{worker: w, journal: journal}
	if journal != nil {
		c.deadline = journal.Deadline()
		j.Deadline = onMonotonic(c.deadline)
	}
	if err := w.send(order{Run: &j}); err != nil {
		if w.alive() && !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
			return outcome{}, true, err // too large, and nothing was sent
		}
		return outcome{}, false, c.died()
	}
	done, err := c.follow(ctx)
	if done == nil {
		w.kill()
		w.stop()
		return outcome{}, false, c.ending(ctx, err)
	}
	w.group = 0
	if done.Failure == "" && done.Fault == "" && !done.Overdue {
		return *done, true, nil
	}
	return *done, true, c.verdict(ctx, *done)
}
