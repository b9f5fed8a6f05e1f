package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// startTimeout is how long a new worker may take until it is ready.
const startTimeout = 30 * time.Second

var errClosed = &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
	Message: "The engine is shutting down.", Detail: "try again in a moment"}

// A pool gives each operation a worker, in the order in which they ask.
type pool struct {
	command []string
	env     []string
	limit   int // operations per worker
	keep    int // idle workers
	spawn   *spawner
	// slots holds a token for each worker that is busy or being replaced. The
	// runtime serves blocked senders first come, first served.
	slots chan struct{}
	// warm is closed when the first worker is there, or can't be.
	warm     chan struct{}
	starting sync.WaitGroup // workers that nobody has asked for yet

	mu     sync.Mutex
	idle   []*worker
	closed bool
}

func newPool(ctx context.Context, command []string, o Options) *pool {
	env := []string{} // nil would be our own
	for _, variable := range o.WorkerEnv {
		if !strings.HasPrefix(variable, "PULUMI_") {
			env = append(env, variable)
		}
	}
	p := &pool{
		command: command, env: env, limit: o.OperationsPerWorker, keep: min(o.Workers, twiceProcessors()),
		spawn: newSpawner(), slots: make(chan struct{}, o.Workers), warm: make(chan struct{}),
	}
	p.starting.Go(func() {
		defer close(p.warm)
		p.add(ctx)
	})
	return p
}

// add starts a worker in advance. If it can't, the next to ask tries, and tells.
func (p *pool) add(ctx context.Context) {
	w, err := p.start(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, w)
}

// run does one operation in a worker.
func (p *pool) run(ctx context.Context, j job, journal ctf.Journal) (outcome, error) {
	w, err := p.acquire(ctx)
	if err != nil {
		return outcome{}, err
	}
	result, healthy, err := w.run(ctx, j, journal)
	p.release(ctx, w, healthy)
	return result, err
}

func (p *pool) acquire(ctx context.Context) (*worker, error) {
	select {
	case <-p.warm:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	w, err := p.take(ctx)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return w, nil
}

// take returns an idle worker that is alive, the one used last, or a new one.
func (p *pool) take(ctx context.Context) (*worker, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errClosed
		}
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return p.start(ctx)
		}
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if w.alive() {
			return w, nil
		}
		w.stop()
	}
}

// release takes a worker back. One that is spent is replaced, and its slot is
// kept until the replacement is ready, so that there are never too many. One
// that a rush needed and nobody does now is let go, for the memory's sake.
func (p *pool) release(ctx context.Context, w *worker, healthy bool) {
	if healthy && w.served < p.limit && p.giveBack(w) {
		return
	}
	p.starting.Go(func() {
		defer func() { <-p.slots }()
		w.stop()
		p.mu.Lock()
		needless := p.closed || len(p.idle) > 0
		p.mu.Unlock()
		if needless {
			return
		}
		p.add(context.WithoutCancel(ctx))
	})
}

// giveBack keeps a worker and frees its slot, unless there are enough workers
// and nobody can be waiting for one.
func (p *pool) giveBack(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= p.keep && len(p.slots) < cap(p.slots) {
		return false
	}
	p.idle = append(p.idle, w)
	<-p.slots // with the lock: the next one counts it
	return true
}

// close waits until no worker is busy and stops all.
func (p *pool) close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	p.starting.Wait()
	for _, w := range p.idle {
		w.stop()
	}
	p.idle = nil
	for range cap(p.slots) { // lets those in that wait, to be told
		<-p.slots
	}
	p.spawn.close()
	return nil
}

func (p *pool) start(ctx context.Context) (*worker, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w, err := startWorker(ctx, p.spawn, p.command, p.env)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
			return nil, cause
		}
		return nil, &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
			Message: "The engine could not start a worker.", Detail: "try again in a moment", Err: err}
	}
	return w, nil
}

// A spawner starts processes from one thread that lives until close. The
// kernel's signal on the parent's death is in truth on the death of the thread
// that started the child, and Go ends threads as it likes.
type spawner struct {
	starts chan start
	done   sync.WaitGroup
}

type start struct {
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan start)}
	s.done.Go(func() {
		runtime.LockOSThread()
		for next := range s.starts {
			next.result <- next.cmd.Start()
		}
	})
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	s.starts <- start{cmd, result}
	if err := <-result; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// close ends the thread, and with it whatever it started that still runs.
func (s *spawner) close() {
	close(s.starts)
	s.done.Wait()
}
