package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// registryStop is how long an upload to the registry may hold up the end.
const registryStop = 5 * time.Second

func newRunCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run all of Mayfly on this machine",
		Long: `Run all of Mayfly in one process: every verb of the API, the ticks that expire
instances, a registry for scenarios, and Redis unless one is given. Instances
run as processes of this machine. Ctrl-C lets work in progress end; what is
running goes on, and is found again at the next run.

Each flag can be set by the environment variable behind it instead. MAYFLY_KEYS
holds the keys (id:key,…) that flags and checkpoints are encrypted with; without
it they are made once and kept in the directory. MAYFLY_TOKEN is what callers
must show, if it is set. K_SINK is a URL that every event is sent to.`,
		Example: "  mayfly run\n  mayfly run --port 9000 --dir ./data --redis-url redis://localhost:6379",
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			defer context.AfterFunc(ctx, func() {
				stop() // a second Ctrl-C ends at once
				fmt.Fprintln(cmd.ErrOrStderr(), "Mayfly stops when the work in progress has ended; Ctrl-C again stops it at once.")
			})()
			return run(ctx, s, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	s.register(cmd.Flags())
	return cmd
}

// run serves until ctx ends, and returns when all is drained and stopped.
func run(ctx context.Context, s settings, out, diagnostics io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	log, err := function.NewLogger(diagnostics, s.logLevel)
	if err != nil {
		return err
	}
	directory, err := openDirectory(ctx, s.dir, diagnostics)
	if err != nil {
		return err
	}
	keys, err := directory.keys(os.Getenv("MAYFLY_KEYS"))
	if err != nil {
		return err
	}
	redisURL, kept, stopRedis, err := provideRedis(ctx, s, directory, log)
	if err != nil {
		return err
	}
	defer stopRedis()

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.address, strconv.Itoa(int(s.port))))
	if err != nil {
		return fmt.Errorf("%w; choose another port with --port", err)
	}
	defer listener.Close() // serve has closed it, save where starting failed
	registry, err := startRegistry(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.registryPort))), directory.join("registry"))
	if err != nil {
		return err
	}
	defer stopWithin(ctx, registryStop, registry.Stop)

	url := "http://" + reachable(listener.Addr())
	s.Platform.Processes.Directory = directory.join("instances")
	s.Scratch = directory.join("scratch")
	s.Platform.Processes.MaxOutput = system.MaxProcessOutput
	plan, err := breakable(system.Plan{
		Settings:  s.Settings,
		Redis:     redis.Options{URL: redisURL, Wait: s.redisWait, Keys: keys, ReconcileEvery: s.reconcile},
		PlainHTTP: names(registry.Address),
		Sinks:     sinks(url),
		Log:       log,
	})
	if err != nil {
		return err
	}
	all, err := system.Open(ctx, plan)
	if err != nil {
		return err
	}
	defer stopWithin(ctx, system.OperationLimit, all.Close)
	greet(out, url, registry.Address, directory.path, kept)
	return serveSystem(ctx, all, log, listener, url, s)
}

// serveSystem serves until ctx ends; the ticks end before the functions do.
func serveSystem(ctx context.Context, all *system.System, log *slog.Logger, listener net.Listener, url string, s settings) error {
	client, err := cloudevents.NewClientHTTP()
	if err != nil {
		return fmt.Errorf("make a CloudEvents client: %w", err)
	}
	clock := &clock{client: client, log: log}
	clock.every(ctx, s.reconcile, url+system.ReconcilePath)
	clock.every(ctx, s.tick, url+system.ExpirePath)
	defer clock.Wait()
	return serve.Run(ctx, listener, serve.Options{
		Verbs:    all.Verbs(),
		Events:   all.Events(),
		Health:   all.Ping,
		Swagger:  s.swagger,
		Token:    function.Token(),
		Version:  function.Version(),
		Log:      log,
		Limit:    system.OperationLimit,
		DrainFor: system.OperationLimit,
	})
}

// provideRedis returns the Redis to use, and whether what it holds outlives
// this run.
func provideRedis(ctx context.Context, s settings, d *dataDirectory, log *slog.Logger) (url string, kept bool, stop func(), err error) {
	if s.redisURL != "" {
		return s.redisURL, true, func() {}, nil
	}
	if s.redisWait > 0 {
		return "", false, nil, errors.New("redis-wait: a Redis of our own has no replicas to wait for; give --redis-url")
	}
	program, err := exec.LookPath("redis-server")
	if errors.Is(err, exec.ErrNotFound) {
		url, stop, err = embeddedRedis()
		return url, false, stop, err
	}
	if err != nil {
		return "", false, nil, fmt.Errorf("find redis-server: %w", err)
	}
	child, err := startRedis(ctx, program, d.join("redis"), d.lock, log)
	if err != nil {
		return "", false, nil, err
	}
	return child.URL, true, child.Stop, nil
}

// names are those of our own registry.
func names(registry string) []string {
	_, port, _ := net.SplitHostPort(registry) // it came from a listener
	return []string{registry, net.JoinHostPort("localhost", port)}
}

// sinks are where events go: those that functions wait for to them, and all of
// them to K_SINK if there is one.
func sinks(url string) []events.Sink {
	return append(function.Sinks(), system.OwnSinks(url)...)
}

// reachable returns the address at which this machine reaches a listener.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// stopWithin stops something although ctx has ended.
func stopWithin(ctx context.Context, limit time.Duration, stop func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	stop(ctx)
}

func greet(out io.Writer, url, registry, directory string, kept bool) {
	fmt.Fprintf(out, "Mayfly is running (version %s).\n\n", function.Version())
	fmt.Fprintf(out, "  API       %s  (REST, gRPC, gRPC-Web, Connect)\n  registry  %s\n", url, registry)
	if kept {
		fmt.Fprintf(out, "  data      %s\n", directory)
	} else {
		fmt.Fprintf(out, "\nWARNING: there is no redis-server on this machine, so nothing is kept when Mayfly\nstops. Install it (apt-get install redis-server), or set --redis-url.\n")
	}
	fmt.Fprintf(out, `
Try next, in another terminal:
  mayfly scenario push DIRECTORY %[1]s/hello:1
  mayfly challenge create hello --scenario %[1]s/hello:1 --timeout 10m
  mayfly instance create hello team-1

Ctrl-C stops Mayfly; instances go on running until their time is over.
`, registry)
}
