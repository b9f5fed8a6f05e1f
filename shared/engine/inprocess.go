package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

var errNoPrograms = errors.New("this server runs no scenarios without a program")

// A Describe describes the resources of one instance, as a program of the
// project would; namespace is where its Kubernetes objects go, unless it is
// empty. It uses nothing but the context: no environment.
type Describe func(ctx *pulumi.Context, project, namespace string) error

// An Open returns what describes the scenario without a program in a
// directory. What is wrong with that is the author's to read.
type Open func(dir string) (Describe, error)

// An inProcess runs a scenario that is no program.
type inProcess struct {
	plugin.LanguageRuntime // the engine calls nothing but what is below
	operation              *operation
	engine                 string
}

// GetRequiredPackages names none: what is needed shows when it runs.
func (r *inProcess) GetRequiredPackages(
	context.Context, plugin.ProgramInfo,
) ([]workspace.PackageDescriptor, []workspace.PackageSpec, error) {
	return nil, nil, nil
}

// Cancel does nothing: the description ends with the operation.
func (r *inProcess) Cancel(context.Context) error { return nil }

// Close does nothing: nothing outlives Run that could be ended.
func (r *inProcess) Close() error { return nil }

// Run has the instance described. What went wrong is added to the words, and
// bail tells the engine so.
func (r *inProcess) Run( //nolint:contextcheck // what the engine gives never ends
	_ context.Context, info plugin.RunInfo,
) (message string, bail bool, err error) {
	o := r.operation
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.describe(ctx, info) }() // its calls end with ctx
	tick := time.NewTicker(programPoll)
	defer tick.Stop()
	for {
		select {
		case err = <-ended:
		case <-o.ctx.Done():
			err = errors.New("the program was stopped")
		case <-tick.C:
			if o.watch.elapsed() <= o.job.Program.Timeout {
				continue
			}
			err = fmt.Errorf("the program did not end within its time limit of %s", o.job.Program.Timeout)
		}
		if err == nil {
			return "", false, nil
		}
		for line := range strings.Lines(err.Error()) { // each may be a mistake of its own
			o.words.add("", line)
		}
		return "", true, nil
	}
}

// describe opens the scenario and runs it against the engine.
func (r *inProcess) describe(ctx context.Context, info plugin.RunInfo) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("the program panicked: %v", panicked)
		}
	}()
	program := r.operation.job.Program
	if r.operation.session.open == nil {
		return errNoPrograms
	}
	describe, err := r.operation.session.open(program.Dir)
	if err != nil {
		return err
	}
	settings := make(map[string]string, len(info.Config))
	for key, value := range info.Config {
		settings[key.String()] = value
	}
	run, err := pulumi.NewContext(ctx, pulumi.RunInfo{
		Project: info.Project, Stack: info.Stack, Organization: info.Organization, RootDirectory: program.Dir,
		Config: settings, Parallel: info.Parallel, DryRun: info.DryRun, MonitorAddr: info.MonitorAddress, EngineAddr: r.engine,
	})
	if err != nil {
		return fmt.Errorf("reach the engine: %w", err)
	}
	defer func() { _ = run.Close() }() // nothing is sent any more
	var failed error
	err = pulumi.RunWithContext(run, func(run *pulumi.Context) error {
		failed = describe(run, info.Project, program.TargetNamespace)
		return failed
	})
	if failed != nil {
		return failed // without what the SDK puts around it
	}
	return err
}
