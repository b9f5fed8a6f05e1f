package system

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	fillpool "github.com/mayfly-ctf/mayfly/functions/fill-pool"
	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// redisPatience is how long Redis may be away at the start: a fresh pod may be
// let in a moment late, and ending would have the next try wait longer. It is
// below what Knative's probes allow.
const redisPatience = 30 * time.Second

// stopFor is how long the work in progress of a function that is told to stop
// gets to end, that of callers who have left included. Knative gives a pod 600 s
// from its deletion, and has the function told only once no call has come for
// 30 s, so that every work in progress is as old; calls get as long as work,
// [function.DrainFor], at the same time; then work that is left is handed over and
// each of four parts closes, which takes [closeLimit] each:
//
//	30 s + 540 s + 5 × 5 s = 595 s
//
// Calls in flight put off that the function is told, see function.Serve, while
// the 600 s go on: what callers have left behind has had that time before.
const stopFor = 540 * time.Second

// A Function is one that runs the engine: settings, and what is served.
type Function struct {
	function.Settings

	engine Settings
	tick   string
	// limit is how long a call gets, drainFor and stopFor how long calls and work
	// get at the end, if not what they get by default.
	limit, drainFor, stopFor time.Duration
}

// Register adds a flag for each setting.
func (f *Function) Register(flags *pflag.FlagSet) {
	f.Settings.Register(flags)
	f.engine.Register(flags)
	flags.StringVar(&f.tick, "tick-pingsource", "", "PingSource of this namespace that wakes expire, turned on and off as things become due; empty is one that is always on")
}

// Run opens a system and serves what pick takes of it, until the process is
// told to stop, or ctx ends, and the work in progress has ended. It returns
// within the time that Knative gives a pod.
func (f *Function) Run(ctx context.Context, sinks []events.Sink, log *slog.Logger, pick func(*System) serve.Options) error {
	ctx, stop := function.UntilTold(ctx)
	defer stop()
	late, cancel := after(ctx, cmp.Or(f.stopFor, stopFor))
	defer cancel()
	options, err := f.Redis()
	if err != nil {
		return err
	}
	options.Log = log
	if f.tick != "" {
		if options.Tick, err = connectTick(f.tick); err != nil {
			return err
		}
	}
	all, err := Open(ctx, Plan{Settings: f.engine, Redis: options, Patience: redisPatience, Sinks: sinks, Log: log})
	if err != nil {
		return err
	}
	defer all.Close(late)
	serving := pick(all)
	serving.Health, serving.Log, serving.DrainFor = all.Ping, log, f.drainFor
	serving.Limit = cmp.Or(f.limit, OperationLimit)
	return f.Serve(ctx, serving)
}

// after returns a context that ends a while after another one did.
func after(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(while, func() { cancel(context.DeadlineExceeded) })
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() {
		stop()
		cancel(nil)
	}
}

func connectTick(name string) (*knative.Tick, error) {
	config, namespace, err := kubernetes.Config("")
	if err != nil {
		return nil, fmt.Errorf("the tick: %w", err)
	}
	return knative.NewTick(config, namespace, name)
}

// OwnSinks have the events that functions wait for sent to the system itself,
// which listens at a URL.
func OwnSinks(url string) []events.Sink {
	return []events.Sink{
		{URL: url + FillPoolPath, Types: fillpool.Types()},
		{URL: url + ReconcilePath, Types: reconcile.Types()},
	}
}
