package main

import (
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

func newServeCommand() *cobra.Command {
	var f system.Function
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve every verb as one function of a cluster",
		Long: `Serve every verb of the API and the functions that events wake, until told to
stop: over REST, gRPC, gRPC-Web, Connect and as CloudEvents, on one port. It is
what the image of mayfly does, as one Knative service. It has no tick of its own:
PingSources wake /expire and /reconcile. Events are sent to the URL in K_SINK,
where Triggers hand them to /fill-pool and /reconcile; without it, to itself.

MAYFLY_KEYS holds the keys (id:key,…) that flags and checkpoints are encrypted
with, MAYFLY_TOKEN what callers must show. Each flag can be set by the
environment variable behind it instead.`,
		Example: "  mayfly serve --redis-url redis://redis:6379 --kubernetes",
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := f.Logger()
			if err != nil {
				return err
			}
			sinks := function.Sinks()
			if len(sinks) == 0 {
				sinks = system.OwnSinks(f.URL())
			}
			return f.Run(cmd.Context(), sinks, log, func(all *system.System) serve.Options {
				return serve.Options{Verbs: all.Verbs(), Events: all.Events()}
			})
		},
	}
	f.Register(cmd.Flags())
	function.NameVariables(cmd.Flags())
	return cmd
}
