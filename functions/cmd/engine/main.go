// Command engine is the functions that run the engine. Its argument names the
// one that it serves.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var f system.Function
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
			log, err := f.Logger()
			if err != nil {
				return err
			}
			return f.Run(cmd.Context(), function.Sinks(), log, func(all *system.System) serve.Options {
				return serve.Options{Verbs: only(all.Verbs(), args[0]), Events: event(all, args[0])}
			})
		},
	}
	f.Register(cmd.Flags())
	function.NameVariables(cmd.Flags())
	cmd.AddCommand(system.NewWorkerCommand())
	return cmd
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
