// Package gateway is one address for all verbs. It hands each call, as it came,
// to the function of its verb, and the answer back. It knows where functions
// are, and nothing of what they do; it keeps no state.
package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// startWithin is how long a function is waited for unless options say else.
const startWithin = 10 * time.Second

// Options are where calls go.
type Options struct {
	// Target returns the address of a verb's function, http://host or
	// http://host:port, by the name of the verb: create-challenge. It is asked
	// once for each verb. Functions are reached over HTTP/2 without TLS.
	Target func(verb string) (*url.URL, error)
	// StartWithin is how long a function that takes no connections is waited for,
	// unless its host has no address.
	// Whatever holds requests while a function starts may hold them longer. 0 is
	// ten seconds.
	StartWithin time.Duration
	// Log takes a line for each call that did not reach its function. Nil is
	// [slog.Default].
	Log *slog.Logger
}

// A Gateway is a handler of every call of the API, in all protocols:
// [serve.Options] takes it as Calls.
type Gateway struct {
	http.Handler
	transport *http.Transport
}

// New returns a gateway, or an error that names the verb whose address is of
// no use. No function is asked for anything. The caller closes it.
func New(o Options) (*Gateway, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.StartWithin == 0 {
		o.StartWithin = startWithin
	}
	g := &Gateway{transport: newTransport()}
	buffers := newBuffers()
	router, err := serve.NewRouter(func(verb string) (http.Handler, error) {
		target, err := o.Target(verb)
		if err != nil {
			return nil, err
		}
		if err := checkTarget(target); err != nil {
			return nil, err
		}
		f := &function{verb: verb, target: target, log: o.Log}
		// It passes on each piece of an answer of unknown length at once, as those of
		// streams are.
		f.proxy = &httputil.ReverseProxy{
			Rewrite:        f.rewrite,
			Transport:      &patient{transport: g.transport, within: o.StartWithin},
			BufferPool:     buffers,
			ModifyResponse: f.inspect,
			ErrorHandler:   f.fail,
			ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		}
		return f, nil
	})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.Handler = router
	return g, nil
}

// Close closes the connections to functions that no call uses. It is for when
// the last call has been answered.
func (g *Gateway) Close() { g.transport.CloseIdleConnections() }

// Hosts returns a Target of [Options] by a pattern in which %s is the name of
// the verb: http://%s.mayfly.svc.cluster.local.
func Hosts(pattern string) func(verb string) (*url.URL, error) {
	return func(verb string) (*url.URL, error) {
		if strings.Count(pattern, "%s") != 1 {
			return nil, fmt.Errorf("the pattern of addresses %q must have one %%s, for the verb", pattern)
		}
		return url.Parse(strings.Replace(pattern, "%s", verb, 1))
	}
}

func checkTarget(target *url.URL) error {
	switch {
	case target == nil || target.Scheme != "http" || target.Hostname() == "":
		return fmt.Errorf("address %q: want http://host or http://host:port", target)
	case target.Path != "" && target.Path != "/" || target.RawQuery != "" || target.User != nil:
		return fmt.Errorf("address %q: want no user, path or query", target)
	default:
		return nil
	}
}
