// Package serve is the edge of every function: it takes requests in whatever
// protocol they come, says who asks, hands them to the verbs, turns errors
// into codes, logs each call once, and drains. It knows transports, and no
// verb's business; it never touches a store or an engine.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
)

const (
	// maxMessage is the longest request in bytes, in every protocol.
	maxMessage = 4 << 20
	// maxStreams is how many calls one connection carries at once. A create
	// lasts as long as its deployment, so there may be many.
	maxStreams = 10_000
	// readHeaderTimeout is how long a caller may take over its headers. There is
	// no other: answers may take minutes.
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	// minCompressed is the shortest answer in bytes that is worth compressing.
	minCompressed = 1024
)

// Options are what a function serves.
type Options struct {
	// Verbs are the calls of the API. One that is nil answers UNIMPLEMENTED.
	Verbs Verbs
	// Calls, if it is set, takes every call of the API, in all protocols, instead
	// of Verbs. So a gateway is served.
	Calls http.Handler
	// Events are handlers of CloudEvents by path.
	Events map[string]EventHandler
	// Health tells whether the function can work. It is asked with a deadline
	// of a second. Nil is always healthy.
	Health func(context.Context) error
	// Swagger serves the API document and its viewer under /swagger/.
	Swagger bool
	// Token, if it is set, is what every request must carry, as a Bearer token or
	// as the password of HTTP Basic authentication. The health check is open to
	// all, and so are Events: those who deliver them have no token, and an event
	// only makes a function look at what is recorded.
	Token string
	// Version is what the health check tells of the function.
	Version string
	// Log takes a line for each call. Nil is [slog.Default].
	Log *slog.Logger
	// Limit is how long one call of Verbs may take, 0 for ever. A verb that is at it
	// longer answers DEADLINE_EXCEEDED, as where a caller's own deadline is over.
	Limit time.Duration
	// InFlight, if it is set, counts the calls and events that are being worked on.
	InFlight *atomic.Int64
	// DrainFor is how long the calls in flight get to end once Run's context
	// has ended. After that they are cut off.
	DrainFor time.Duration
}

// Run serves on the listener: gRPC, gRPC-Web, Connect, REST, events and the
// health check, all on one port, over HTTP/1.1 and HTTP/2 without TLS. The checks
// of Knative's functions are answered too: readiness is the health check,
// liveness says that the process serves, whatever it needs. When
// ctx ends it accepts nothing new, waits for the calls in flight and returns
// nil, or an error if they did not end within DrainFor. The contexts of calls
// do not end with ctx. The listener is closed in any case.
func Run(ctx context.Context, l net.Listener, o Options) error {
	defer l.Close() // The server has closed it already, save where starting failed.
	if o.Log == nil {
		o.Log = slog.Default()
	}
	calls, end, err := newAPI(ctx, o)
	if err != nil {
		return err
	}
	defer end()

	server := newServer(route(o, calls))
	server.ErrorLog = slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err = drain(context.WithoutCancel(ctx), server, o.DrainFor)
	<-ended
	return err
}

func drain(ctx context.Context, server *http.Server, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain: calls did not end within %s: %w", within, err), server.Close())
	}
	return nil
}

// newServer returns a server of both HTTP versions without TLS.
func newServer(h http.Handler) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
	}
}

// newAPI returns the handler of all calls, and what ends it.
func newAPI(ctx context.Context, o Options) (calls http.Handler, end func(), err error) {
	if o.Calls != nil {
		return o.Calls, func() {}, nil
	}
	rpc := paced(newCalls(o))
	rest, err := newREST(ctx, rpc)
	if err != nil {
		return nil, nil, err
	}
	fromREST := paced(rest)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isREST(r) {
			fromREST.ServeHTTP(w, r)
			return
		}
		rpc.ServeHTTP(w, r)
	}), rest.close, nil
}

// newCalls returns the handler of the RPC protocols.
func newCalls(o Options) http.Handler {
	e := edge{verbs: o.Verbs, limit: o.Limit, log: o.Log}
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(minCompressed),
	}
	challenges, challengeHandler := challengev1connect.NewChallengeStoreHandler(challengeStore{e}, options...)
	instances, instanceHandler := instancev1connect.NewInstanceManagerHandler(instanceManager{e}, options...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, challenges):
			challengeHandler.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, instances):
			instanceHandler.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// route finds the handler of a path. It is no [http.ServeMux], for that
// redirects paths which are not clean, and ids may make them so.
func route(o Options, calls http.Handler) http.Handler {
	health, alive := newHealth(o.Version, o.Health), newHealth(o.Version, nil)
	calls = counted(o.InFlight, authenticate(o.Token, calls))
	swagger := authenticate(o.Token, newSwagger())
	events := make(map[string]http.Handler, len(o.Events))
	for path, handle := range o.Events {
		events[path] = counted(o.InFlight, newEventEndpoint(path, handle, o.Log))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case path == "/healthcheck", path == "/health/readiness":
			health.ServeHTTP(w, r)
		case path == "/health/liveness":
			alive.ServeHTTP(w, r)
		case o.Swagger && strings.HasPrefix(path, "/swagger/"):
			swagger.ServeHTTP(w, r)
		case events[path] != nil:
			events[path].ServeHTTP(w, r)
		default:
			calls.ServeHTTP(w, r)
		}
	})
}

// counted counts what is in flight.
func counted(in *atomic.Int64, next http.Handler) http.Handler {
	if in == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.Add(1)
		defer in.Add(-1)
		next.ServeHTTP(w, r)
	})
}
