// Command api is the light functions: those that need no engine. Its argument
// names the verb that it serves; gateway is one address for all of them.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/gateway"
	querychallenge "github.com/mayfly-ctf/mayfly/functions/query-challenge"
	queryinstance "github.com/mayfly-ctf/mayfly/functions/query-instance"
	renewinstance "github.com/mayfly-ctf/mayfly/functions/renew-instance"
	retrievechallenge "github.com/mayfly-ctf/mayfly/functions/retrieve-challenge"
	retrieveinstance "github.com/mayfly-ctf/mayfly/functions/retrieve-instance"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// eventsLimit is how long a stopping function tries to publish its events;
// what is left is published by reconcile.
const eventsLimit = 5 * time.Second

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// settings are those of every function, and of the gateway.
type settings struct {
	function.Settings

	target string
}

func newCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "api VERB",
		Short: "Serve one verb that needs no engine, or the gateway",
		Long: `Serve one verb of the API until told to stop: over REST, gRPC, gRPC-Web and
Connect, on one port. MAYFLY_KEYS holds the keys (id:key,…) that flags and
checkpoints are encrypted with, MAYFLY_TOKEN what callers must show; K_SINK is a
URL that events are sent to. Each flag can be set by the environment variable
behind it instead.`,
		Example:       "  api retrieve-instance --redis-url redis://redis:6379\n  api gateway --gateway-target http://%s.mayfly.svc.cluster.local",
		ValidArgs:     append(slices.Sorted(maps.Keys(verbs(nil, nil))), "gateway"),
		Args:          cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		SilenceErrors: true,
		SilenceUsage:  true,
		PreRunE:       func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := s.Logger()
			if err != nil {
				return err
			}
			ctx, stop := function.UntilTold(cmd.Context())
			defer stop()
			if args[0] == "gateway" {
				return serveGateway(ctx, s, log)
			}
			return serveVerb(ctx, s, args[0], log)
		},
	}
	s.Register(cmd.Flags())
	cmd.Flags().StringVar(&s.target, "gateway-target", "http://%s.mayfly.svc.cluster.local", "address of a function, with %s for its verb")
	function.NameVariables(cmd.Flags())
	return cmd
}

// verbs are the light verbs.
func verbs(store *redis.Store, publisher *events.Publisher) map[string]serve.Verbs {
	return map[string]serve.Verbs{
		"retrieve-challenge": {RetrieveChallenge: retrievechallenge.New(store).Handle},
		"query-challenge":    {QueryChallenge: querychallenge.New(store).Handle},
		"retrieve-instance":  {RetrieveInstance: retrieveinstance.New(store).Handle},
		"query-instance":     {QueryInstance: queryinstance.New(store).Handle},
		"renew-instance":     {RenewInstance: renewinstance.New(store, publisher).Handle},
	}
}

func serveVerb(ctx context.Context, s settings, verb string, log *slog.Logger) error {
	options, err := s.Redis()
	if err != nil {
		return err
	}
	options.Lazy, options.Log = true, log // a call that comes while Redis is away is told so
	store, err := redis.Open(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // nothing is in flight
	publisher, err := events.NewPublisher(store, function.Sinks(), log)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventsLimit)
		defer cancel()
		if err := publisher.Close(ctx); err != nil {
			log.WarnContext(ctx, "events are left for reconcile", "error", err)
		}
	}()
	return s.Serve(ctx, serve.Options{Verbs: verbs(store, publisher)[verb], Health: store.Ping, Log: log})
}

func serveGateway(ctx context.Context, s settings, log *slog.Logger) error {
	g, err := gateway.New(gateway.Options{Target: gateway.Hosts(s.target), Log: log})
	if err != nil {
		return err
	}
	defer g.Close()
	return s.Serve(ctx, serve.Options{Calls: g, Log: log})
}
