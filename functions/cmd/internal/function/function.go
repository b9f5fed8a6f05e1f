// Package function is what every function that serves one verb has: settings
// from its environment, the store, events to publish, and serving until it is
// told to stop. It links no engine, so that light functions stay light.
package function

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/serve"
	"github.com/mayfly-ctf/mayfly/shared/telemetry"
)

// DrainFor is how long the calls in flight get to end: below the grace that
// Knative gives a pod, so that the answers still reach the callers.
const DrainFor = 540 * time.Second

// Settings are what an operator may choose of every function.
type Settings struct {
	RedisURL string
	// RedisWait is how many replicas must have a change before it is answered.
	RedisWait uint8
	// ReconcileEvery is how often the function reconcile is woken.
	ReconcileEvery time.Duration

	address  string
	port     uint16
	logLevel string
	swagger  bool
}

// Register adds a flag for each setting.
func (s *Settings) Register(flags *pflag.FlagSet) {
	flags.StringVar(&s.address, "address", "0.0.0.0", "address to listen on")
	flags.Uint16VarP(&s.port, "port", "p", 8080, "port to listen on")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&s.swagger, "swagger", false, "serve the API's documentation under /swagger/")
	flags.StringVar(&s.RedisURL, "redis-url", "", "Redis 6.2 or newer")
	flags.Uint8Var(&s.RedisWait, "redis-wait", 0, "replicas of Redis that must have a change before it is answered; not with a Redis Cluster")
	flags.DurationVar(&s.ReconcileEvery, "reconcile", 15*time.Minute, "time between two looks for interrupted work, as the tick of reconcile has it")
}

// Redis returns how the store is opened.
func (s *Settings) Redis() (redis.Options, error) {
	if s.RedisURL == "" {
		return redis.Options{}, errors.New("no Redis is given: set REDIS_URL")
	}
	keys, err := redis.ParseKeys(os.Getenv("MAYFLY_KEYS"))
	if err != nil {
		return redis.Options{}, fmt.Errorf("MAYFLY_KEYS: %w", err)
	}
	return redis.Options{URL: s.RedisURL, Wait: s.RedisWait, Keys: keys, ReconcileEvery: s.ReconcileEvery}, nil
}

// Logger returns the function's log, on standard error.
func (s *Settings) Logger() (*slog.Logger, error) {
	return NewLogger(os.Stderr, s.logLevel)
}

// NewLogger returns a logger, and has go-redis write to it too.
func NewLogger(to io.Writer, level string) (*slog.Logger, error) {
	log, err := telemetry.NewLogger(to, level)
	if err == nil {
		goredis.SetLogger(redisLog{log})
	}
	return log, err
}

// redisLog takes what go-redis has to say. It is of no use to an operator: each
// call that fails is told of where it was made.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}

// URL is where this machine reaches what Serve serves.
func (s *Settings) URL() string {
	host := s.address
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(s.port)))
}

// UntilTold returns a context that ends when the process is told to stop.
func UntilTold(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// Serve serves until ctx ends and the calls in flight have, which get
// [DrainFor] unless the options say else. What the settings say of serving is
// added to the options.
func (s *Settings) Serve(ctx context.Context, o serve.Options) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.address, strconv.Itoa(int(s.port))))
	if err != nil {
		return err
	}
	o.Swagger, o.Token, o.Version = s.swagger, Token(), Version()
	o.DrainFor = cmp.Or(o.DrainFor, DrainFor)
	if os.Getenv("K_REVISION") != "" { // Knative tells it to its functions
		o.InFlight = new(atomic.Int64)
		defer hold(context.WithoutCancel(ctx), o.InFlight, knativeProxy, holdEvery)()
	}
	return serve.Run(ctx, listener, o)
}

// Token is what callers must show, empty if nothing.
func Token() string { return os.Getenv("MAYFLY_TOKEN") }

// Sinks is where events go: to K_SINK, all of them, if there is one.
func Sinks() []events.Sink {
	if sink := os.Getenv("K_SINK"); sink != "" {
		return []events.Sink{{URL: sink}}
	}
	return nil
}

// Version is the version of the program's module.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}

// NameVariables tells in the help of each flag which environment variable sets
// it instead.
func NameVariables(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + variable(f.Name) + "]" })
}

// FromEnvironment sets every flag that the command line does not and the
// environment does.
func FromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		value, ok := os.LookupEnv(name)
		if f.Changed || !ok || value == "" || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	return failed
}

func variable(flag string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}
