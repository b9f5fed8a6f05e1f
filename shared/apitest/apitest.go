// Package apitest is a black-box suite for the whole API. It knows the
// contract and an address, and nothing of what is behind: it may run against
// one process, against a cluster, or against another implementation.
package apitest

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long the suite waits for what must happen.
const patience = 3 * time.Minute

// A Target is the system to be tested. Instances are processes of the machine
// that runs the suite (the resource process:index:Process), or pods.
type Target struct {
	// BaseURL is the address of the API, http://host:port.
	BaseURL string
	// Host returns where a call goes, for a system whose functions are called by
	// their own hosts: by its method and its path. Over gRPC, that is a POST to
	// /package.Service/Method. It is asked also for what is no call of the API. Nil
	// is the host of BaseURL.
	Host func(*http.Request) string
	// Token is what calls must show; empty is nothing.
	Token string
	// Expire is the address of the function expire. Empty is BaseURL/expire: one
	// process does everything.
	Expire string
	// Registry is the host:port of a registry over plain HTTP, to which the suite
	// pushes scenarios and from which the system fetches them.
	Registry string
	// Dial connects to the system, for addresses that mean nothing here; nil takes
	// them as they are.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Pack makes an image of a program, which it runs, and returns its reference.
	// Instances are then pods with that image; nil is for processes.
	Pack func(program []byte) string
	// Home is the host at which instances reach the suite; empty is 127.0.0.1.
	Home string
	// Swagger tells whether the API document is served.
	Swagger bool
	// Toolchain tells whether the system compiles scenarios given as source.
	Toolchain bool
	// Kill ends the system without a chance to clean up and starts it again on
	// the same addresses and data; it returns when it is healthy. Nil leaves out
	// what needs it.
	Kill func()
}

// Run runs the suite. Each subtest is named after the row of the feature table
// that it covers. They run in parallel, each with challenges and sources of
// its own, so that the system may be in use.
func Run(t *testing.T, target Target) {
	t.Helper()
	if target.Expire == "" {
		target.Expire = target.BaseURL + "/expire"
	}
	if target.Dial == nil {
		target.Dial = (&net.Dialer{}).DialContext
	}
	if target.Home == "" {
		target.Home = "127.0.0.1"
	}
	way := newWay(t, target)
	s := &suite{
		target: target, way: way, client: &http.Client{Transport: way, Timeout: 2 * patience}, scenarios: pushScenarios(t, target),
	}
	t.Run("rows", func(t *testing.T) {
		for _, rows := range []map[string]func(*testing.T, *suite){
			transportRows(), challengeRows(), updateRows(), instanceRows(), poolRows(), endRows(),
		} {
			for name, row := range rows {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					row(t, s)
				})
			}
		}
	})
	// It takes the system away from under the others.
	if target.Kill != nil {
		t.Run("A47_restart_safety", func(t *testing.T) { restartSafety(t, s) })
	}
}

// A suite is what all rows share.
type suite struct {
	target    Target
	way       *way
	client    *http.Client
	scenarios scenarios
	unique    atomic.Int64
}

// id returns an id that nobody else uses.
func (s *suite) id() string {
	return "apitest-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatInt(s.unique.Add(1), 10)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if condition() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}
