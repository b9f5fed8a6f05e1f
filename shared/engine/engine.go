// Package engine runs scenarios: it embeds Pulumi's engine and brings the
// resources of one instance to what a program describes, or destroys them. It
// knows Pulumi, scenario programs and how to confine them, and the processes
// that the work is done in. It must not know where checkpoints are stored, who
// asks, or what any provider makes.
//
// Pulumi's engine was made for a command line that exits: it leaks, and it
// panics on what it does not expect. So every operation runs in a worker, a
// process of the same binary, that is replaced after a number of operations.
// [Engine] is the side that hands out work and keeps the journal; [Work] is the
// worker's side.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// A Source brings the files of a scenario to this machine. The engine closes
// the content when the operation has ended.
type Source interface {
	Open(ctx context.Context, s ctf.Scenario) (*scenario.Content, error)
}

// Options are what New needs.
type Options struct {
	Source Source
	// WorkerCommand is the program and the arguments that start a worker: this
	// binary, told to call [Work].
	WorkerCommand []string
	// WorkerEnv is the whole environment of a worker, as NAME=value. What the
	// providers need must be in it; a scenario program sees none of it. Names
	// that begin with PULUMI_ are left out: Pulumi's engine obeys them.
	WorkerEnv []string
	// Workers is how many operations run at the same time; 0 is twice
	// GOMAXPROCS. More than these are worth it where operations mostly wait, and
	// are let go when they are idle.
	Workers int
	// OperationsPerWorker is after how many operations a worker is replaced; 0
	// is 50.
	OperationsPerWorker int
	// ScenarioTimeout is how long a scenario program may run, not counting the
	// time in which providers work for it; 0 is a minute.
	ScenarioTimeout time.Duration
	// ScenarioMemory is how many bytes of memory a scenario program may
	// allocate; 0 is 512 MiB.
	ScenarioMemory uint64
	// Scratch is where the temporary directories of scenario programs are made. It
	// is this engine's alone: what one that was killed left in it is removed. Empty
	// is the directory for temporary files, in which that would stay.
	Scratch string
	// TargetNamespace is given to scenario programs as
	// KUBERNETES_TARGET_NAMESPACE unless it is empty.
	TargetNamespace string
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = twiceProcessors()
	}
	if o.OperationsPerWorker <= 0 {
		o.OperationsPerWorker = 50
	}
	if o.ScenarioTimeout <= 0 {
		o.ScenarioTimeout = time.Minute
	}
	if o.ScenarioMemory == 0 {
		o.ScenarioMemory = 512 << 20
	}
	return o
}

func twiceProcessors() int { return 2 * runtime.GOMAXPROCS(0) }

// An Engine runs scenarios in worker processes. It is a [ctf.Engine] and safe
// for concurrent use.
type Engine struct {
	options Options
	pool    *pool
	// programs holds a token for each scenario program that may run at once. It
	// is nil where programs are confined and any number may.
	programs chan struct{}
}

var _ ctf.Engine = (*Engine)(nil)

// New returns an engine, and has a first worker start meanwhile: operations wait
// for it, and tell if none starts. It also makes this process undumpable, so that
// no scenario program can read its memory or environment. When ctx ends that start
// is given up; otherwise it has no meaning. The engine must be closed.
func New(ctx context.Context, options Options) (*Engine, error) {
	options = options.withDefaults()
	if len(options.WorkerCommand) == 0 {
		return nil, errors.New("start the engine: no worker command")
	}
	path, err := exec.LookPath(options.WorkerCommand[0])
	if err != nil {
		return nil, fmt.Errorf("find the worker's program: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("find the worker's program: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("make the process undumpable: %w", err)
	}
	if err := emptyScratch(options.Scratch); err != nil {
		return nil, err
	}
	command := append([]string{path}, options.WorkerCommand[1:]...)
	e := &Engine{options: options, pool: newPool(ctx, command, options)}
	if landlockABI() == 0 {
		e.programs = make(chan struct{}, 1)
	}
	return e, nil
}

// Close waits for the operations in progress, whose contexts are their
// callers' business, and ends all workers. Operations that begin later fail
// with a kind Unavailable error. It may be called twice.
func (e *Engine) Close() error { return e.pool.close() }

// Preview runs the program without making anything; see [ctf.Engine]. A
// program without an identity gets a fresh one.
func (e *Engine) Preview(ctx context.Context, p ctf.Program) error {
	if p.Instance.Identity == "" {
		p.Instance.Identity = ctf.NewIdentity()
	}
	result, err := e.runProgram(ctx, p, job{Operation: preview}, nil)
	if err != nil {
		return err
	}
	if result.Failure != "" {
		return ctf.ScenarioMismatch(p.Scenario.Reference, result.Failure, nil)
	}
	return nil
}

// Up deploys the program; see [ctf.Engine]. A program that can't be loaded is a
// ScenarioMismatch error, as in Preview. When the worker that does it dies,
// the error is of kind Unavailable, and calling Up again with the checkpoint
// as it is stored then goes on from there.
func (e *Engine) Up(ctx context.Context, p ctf.Program, c ctf.Checkpoint, journal ctf.Journal) (ctf.Result, error) {
	result, err := e.runProgram(ctx, p, job{Operation: up, Checkpoint: checkpointOf(c)}, journal)
	if err != nil {
		return ctf.Result{}, err
	}
	if result.Unloadable {
		return ctf.Result{}, ctf.ScenarioMismatch(p.Scenario.Reference, result.Failure, nil)
	}
	if result.Failure != "" {
		return ctf.Result{}, ctf.DeploymentFailed(result.Failure, nil)
	}
	return ctf.Result{ConnectionInfo: result.ConnectionInfo, Flags: result.Flags, Base: result.Base}, nil
}

// Down destroys what the checkpoint knows, then has every provider that is a
// [Sweeper] destroy what else the instance left; see [ctf.Engine]. Of errors
// the same holds as for Up.
func (e *Engine) Down(ctx context.Context, key ctf.InstanceKey, c ctf.Checkpoint, journal ctf.Journal) error {
	j := job{Operation: down, Challenge: key.Challenge, Identity: key.Identity, Checkpoint: checkpointOf(c)}
	result, err := e.pool.run(ctx, j, journal)
	if err != nil {
		return err
	}
	if result.Failure != "" {
		return ctf.DeploymentFailed(result.Failure, nil)
	}
	return nil
}

// Resources are what providers have made by the checkpoint; see [ctf.Engine].
func (e *Engine) Resources(ctx context.Context, c ctf.Checkpoint) ([]ctf.Resource, error) {
	state, err := checkpointOf(c).replay(ctx)
	if err != nil {
		return nil, err
	}
	return made(state), nil
}

func (e *Engine) runProgram(ctx context.Context, p ctf.Program, j job, journal ctf.Journal) (outcome, error) {
	content, err := e.options.Source.Open(ctx, p.Scenario)
	if err != nil {
		return outcome{}, err
	}
	defer content.Close()
	if e.programs != nil && !content.Manifest {
		select {
		case e.programs <- struct{}{}:
			defer func() { <-e.programs }()
		case <-ctx.Done():
			return outcome{}, context.Cause(ctx)
		}
	}
	temporary, err := newScratch(e.options.Scratch)
	if err != nil {
		return outcome{}, err
	}
	defer temporary.remove()
	j.Challenge, j.Identity = p.Instance.Challenge, p.Instance.Identity
	j.Program = &programJob{
		Dir: content.Dir, Project: content.Project, Binary: content.Binary,
		Temporary: string(temporary), Additional: p.Additional, TargetNamespace: e.options.TargetNamespace,
		Timeout: e.options.ScenarioTimeout, Memory: e.options.ScenarioMemory,
	}
	return e.pool.run(ctx, j, journal)
}
