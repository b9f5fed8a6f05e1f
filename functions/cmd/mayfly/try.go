package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

const (
	// tryInstallation keeps what is tried apart from what a Mayfly serves.
	tryInstallation = "try"
	// sameInterrupt is how long after one Ctrl-C another is none of its own.
	sameInterrupt = 300 * time.Millisecond
)

func newScenarioTryCommand(c *client) *cobra.Command {
	t := trial{client: c}
	var kubeconfig string
	var clean, all bool
	cmd := &cobra.Command{
		Use:   "try [DIR]",
		Short: "Deploy a scenario once, watch it, and tear it down on Ctrl-C",
		Long: `Deploy the scenario in a directory once, without a registry, without Redis and
without a challenge: on the cluster and in the namespace that kubectl would use,
or, for a scenario of processes, on this machine. Where to connect and the flags
go to the output; events and logs follow, elsewhere. Ctrl-C tears everything
down. If that could not be done, because this was killed for instance, the next
try does it, or --clean.`,
		Example: `  mayfly scenario try
  mayfly scenario try ./hello --namespace playground --additional level=hard
  mayfly scenario try ./hello --kubernetes=false
  mayfly scenario try --clean`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			if all && !clean {
				return usageError{"--all goes with --clean"}
			}
			if kubeconfig != "" { // for the worker, too
				if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
					return fmt.Errorf("choose the kubeconfig: %w", err)
				}
			}
			if err := t.prepare(cmd.Flags().Changed("kubernetes")); err != nil {
				return err
			}
			if clean {
				return t.clean(cmd.Context(), all)
			}
			return t.run(cmd.Context(), dir)
		},
	}
	flags := cmd.Flags()
	registerAdditional(flags, &t.additional, "`key=value` that the scenario gets; may be repeated")
	flags.StringVar(&kubeconfig, "kubeconfig", "", "`file` that says how to reach the cluster, instead of $KUBECONFIG or ~/.kube/config")
	flags.BoolVar(&clean, "clean", false, "only remove what your earlier tries on this machine left")
	flags.BoolVar(&all, "all", false, "with --clean: also what others tried, or try now")
	t.registerPlatform(flags)
	return cmd
}

// A trial is one scenario that is tried.
type trial struct {
	*client

	platform   system.Platform
	additional map[string]string
	cluster    *cluster // nil if there is none
	directory  string   // for what runs on this machine
	engine     *engine.Engine
}

// registerPlatform adds the flags that say where to try, with shorter names.
func (t *trial) registerPlatform(flags *pflag.FlagSet) {
	t.platform.Register(flags)
	flags.Lookup("kubernetes").Usage = "use the cluster of the kubeconfig, or of the pod that this runs in (default: if there is one)"
	flags.StringVarP(&t.platform.Namespace, "namespace", "n", "", "`namespace` to deploy to; empty is that of the kubeconfig's context")
	for _, name := range []string{"max-processes", "kubernetes-target-namespace"} {
		flags.Lookup(name).Hidden = true
	}
}

// prepare finds out where to try. chosen tells whether the user said whether to
// use a cluster.
func (t *trial) prepare(chosen bool) error {
	t.directory = filepath.Join(stateDirectory(), tryInstallation)
	t.platform.Installation = tryInstallation
	t.platform.Processes.Directory = filepath.Join(t.directory, "instances")
	if chosen && !t.platform.Kubernetes {
		return nil
	}
	c, err := currentCluster()
	if errors.Is(err, kubernetes.ErrNoCluster) {
		if chosen {
			return fmt.Errorf("%w; set KUBECONFIG, or give --kubeconfig", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if t.platform.Namespace != "" {
		c.namespace = t.platform.Namespace
	}
	t.platform.Namespace = c.namespace
	t.platform.Kubernetes, t.cluster = true, c
	return nil
}

// open starts the engine, once the cluster answers.
func (t *trial) open(ctx context.Context, source engine.Source) error {
	if t.cluster != nil {
		if err := t.cluster.check(ctx); err != nil {
			return err
		}
	}
	command, err := t.platform.WorkerCommand()
	if err != nil {
		return err
	}
	t.engine, err = engine.New(ctx, engine.Options{
		Source: source, WorkerCommand: command, WorkerEnv: system.WorkerEnvironment(), Workers: 1, TargetNamespace: t.platform.Namespace,
	})
	return err
}

// A directorySource is the scenario in a directory, whichever is asked for.
type directorySource string

// Open opens the directory.
func (d directorySource) Open(ctx context.Context, _ ctf.Scenario) (*scenario.Content, error) {
	return scenario.OpenDirectory(ctx, string(d))
}

// run tries the scenario until the first Ctrl-C.
func (t *trial) run(ctx context.Context, dir string) (err error) {
	if err := refuseBroken(t.client, dir); err != nil {
		return fmt.Errorf("%w; nothing was deployed", err)
	}
	if t.cluster == nil && isFile(filepath.Join(dir, manifest.File)) {
		return fmt.Errorf("%s runs on a cluster only: give --kubeconfig, or set KUBECONFIG", filepath.Join(dir, manifest.File))
	}
	first, second, stop := interrupts(ctx)
	defer stop()
	if _, err := await(first, t.client, "starting the engine", workLimit, func(ctx context.Context) (any, error) {
		return nil, t.open(ctx, directorySource(dir))
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.engine.Close()) }()
	if err := t.removeLeft(first); err != nil {
		return err
	}
	challenge, err := t.challengeOf(dir)
	if err != nil {
		return err
	}
	key := ctf.InstanceKey{Challenge: challenge, Identity: ctf.NewIdentity()}
	release, err := t.hold(key.Identity)
	if err != nil {
		return err
	}
	defer release()
	if t.cluster != nil {
		defer follow(context.WithoutCancel(ctx), t.cluster, key.Identity, t.diagnostics)()
	}
	l := newLedger()
	failure := t.up(first, dir, key, l)
	switch {
	case failure == nil:
		<-first.Done()
	case first.Err() == nil:
		fmt.Fprintf(t.diagnostics, "\n%s does not come up:\n  %s\n\n", dir, indent(because(failure)))
		failure = fmt.Errorf("%s did not come up; the reason is above", dir)
	default:
		failure = nil // it was stopped
	}
	fmt.Fprintln(t.diagnostics, "Tearing it down; Ctrl-C again stops that and leaves the rest.")
	return errors.Join(failure, t.down(second, key, l))
}

// up deploys the scenario and says where it is.
func (t *trial) up(ctx context.Context, dir string, key ctf.InstanceKey, l *engine.Ledger) error {
	began := time.Now()
	result, err := await(ctx, t.client, "deploying "+dir, system.OperationLimit, func(ctx context.Context) (ctf.Result, error) {
		p := ctf.Program{Scenario: ctf.Scenario{Reference: dir}, Instance: key, Additional: t.additional}
		return t.engine.Up(ctx, p, ctf.Checkpoint{}, l)
	})
	if err != nil {
		return err
	}
	if err := l.Rebase(ctx, result.Base); err != nil {
		return err
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	defer fmt.Fprintf(t.diagnostics, "Ready after %s. Ctrl-C tears it down.\n", took)
	if t.format == formatJSON {
		data, err := json.Marshal(map[string]any{
			"connectionInfo": result.ConnectionInfo, "flags": result.Flags, "identity": key.Identity,
		})
		if err != nil {
			return err
		}
		return printJSON(t.out, data)
	}
	return table(t.out, func(w io.Writer) {
		row(w, "connect", result.ConnectionInfo)
		for _, flag := range result.Flags {
			row(w, "flag", flag)
		}
		row(w, "identity", string(key.Identity))
	})
}

// down destroys the instance until ctx ends.
func (t *trial) down(ctx context.Context, key ctf.InstanceKey, l *engine.Ledger) error {
	l.Extend(time.Now().Add(system.OperationLimit))
	_, err := await(ctx, t.client, "tearing down", system.OperationLimit, func(ctx context.Context) (any, error) {
		return nil, t.engine.Down(ctx, key, l.Checkpoint(), l)
	})
	switch {
	case err == nil:
		fmt.Fprintln(t.diagnostics, "Torn down; nothing is left.")
		return nil
	case ctx.Err() != nil:
		err = errors.New("it was stopped")
	}
	return fmt.Errorf("something of the instance %s may be left, as tearing it down did not end: %s\n"+
		"remove it with 'mayfly scenario try --clean', or with the next try%s", key.Identity, because(err), t.byHand(key.Identity))
}

// byHand says how to remove an instance without this program.
func (t *trial) byHand(identity ctf.Identity) string {
	if t.cluster == nil {
		return ""
	}
	return fmt.Sprintf(", or with\n  kubectl delete configmap -n %s -l %s=%s", t.cluster.namespace, kubernetes.LabelIdentity, identity)
}

// because is the message of an error with all that explains it.
func because(err error) string {
	message, details := describe(err)
	return strings.Join(append([]string{message}, explanations(message, details)...), "\n")
}

// interrupts returns a context that ends at the first Ctrl-C and one that ends
// at the second. What comes right after the first is the same one, sent to us by
// the terminal and by who started us.
func interrupts(ctx context.Context) (first, second context.Context, stop func()) {
	first, endFirst := context.WithCancel(ctx)
	second, endSecond := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		var begun time.Time
		for range signals {
			switch {
			case first.Err() == nil:
				begun = time.Now()
				endFirst()
			case time.Since(begun) > sameInterrupt:
				endSecond()
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		close(signals)
		endFirst()
		endSecond()
	}
}

// newLedger is the journal of an instance that lives as long as this process,
// with time for the first operation.
func newLedger() *engine.Ledger {
	l := &engine.Ledger{}
	l.Extend(time.Now().Add(system.OperationLimit))
	return l
}
