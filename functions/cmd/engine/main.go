// Command engine is the functions that run the engine. Its argument names the
// one that it serves.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// redisPatience is how long Redis may be away at the start: a fresh pod may be
// let in a moment late, and ending would have the next try wait longer. It is
// below what Knative's probes allow.
const redisPatience = 30 * time.Second

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

// settings are those of every function, and of the engine.
type settings struct {
	function.Settings

	engine system.Settings
	tick   string
}

func newCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "engine VERB",
		Short: "Serve one verb that runs the engine",
		Long: `Serve one verb of the API, or one function that events wake, until told to
stop: over REST, gRPC, gRPC-Web, Connect and as CloudEvents, on one port.
MAYFLY_KEYS holds the keys (id:key,…) that flags and checkpoints are encrypted
with, MAYFLY_TOKEN what callers must show; K_SINK is a URL that events are sent
to. Each flag can be set by the environment variable behind it instead.`,
		Example:       "  engine create-instance --redis-url redis://redis:6379 --kubernetes",
		ValidArgs:     slices.Concat(verbNames(), eventNames()),
		Args:          cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		SilenceErrors: true,
		SilenceUsage:  true,
		PreRunE:       func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := s.Logger()
			if err != nil {
				return err
			}
			return run(cmd.Context(), s, args[0], log)
		},
	}
	s.Register(cmd.Flags())
	s.engine.Register(cmd.Flags())
	cmd.Flags().StringVar(&s.tick, "tick-pingsource", "", "PingSource of this namespace that wakes expire, turned on and off as things become due; empty is one that is always on")
	function.NameVariables(cmd.Flags())
	cmd.AddCommand(system.NewWorkerCommand())
	return cmd
}

func run(ctx context.Context, s settings, verb string, log *slog.Logger) error {
	options, err := s.Redis()
	if err != nil {
		return err
	}
	options.Log = log
	if s.tick != "" {
		if options.Tick, err = connectTick(s.tick); err != nil {
			return err
		}
	}
	all, err := system.Open(ctx, system.Plan{
		Settings: s.engine, Redis: options, Patience: redisPatience, Sinks: function.Sinks(), Log: log,
	})
	if err != nil {
		return err
	}
	defer all.Close(ctx)
	return s.Serve(ctx, serve.Options{Verbs: only(all.Verbs(), verb), Events: event(all, verb), Health: all.Ping, Log: log})
}

func connectTick(name string) (*knative.Tick, error) {
	config, namespace, err := kubernetes.Config("")
	if err != nil {
		return nil, fmt.Errorf("the tick: %w", err)
	}
	return knative.NewTick(config, namespace, name)
}

func verbNames() []string {
	return []string{"create-challenge", "update-challenge", "delete-challenge", "create-instance", "delete-instance"}
}

// only leaves one verb, none if it is not one that runs the engine.
func only(all serve.Verbs, verb string) serve.Verbs {
	return map[string]serve.Verbs{
		"create-challenge": {CreateChallenge: all.CreateChallenge},
		"update-challenge": {UpdateChallenge: all.UpdateChallenge},
		"delete-challenge": {DeleteChallenge: all.DeleteChallenge},
		"create-instance":  {CreateInstance: all.CreateInstance},
		"delete-instance":  {DeleteInstance: all.DeleteInstance},
	}[verb]
}

func eventNames() []string { return []string{"expire", "fill-pool", "reconcile"} }

// event leaves the one function that events wake, at its path and at /, to where
// events go whose sender was told the function alone; none if it is none of them.
func event(all *system.System, name string) map[string]serve.EventHandler {
	path := "/" + name
	if handle, ok := all.Events()[path]; ok {
		return map[string]serve.EventHandler{path: handle, "/": handle}
	}
	return nil
}
