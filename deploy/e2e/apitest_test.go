//go:build cluster

package e2e_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/apitest"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// testAPI runs the black-box suite through the gateway.
func testAPI(t *testing.T, i *installation) { apitest.Run(t, i.target(t)) }

// testDirect runs it past the gateway: each call goes to its function's own
// host, and shows a token.
func testDirect(t *testing.T, i *installation, token string) {
	target := i.target(t)
	target.Token, target.Host = token, i.hosts(t)
	apitest.Run(t, target)
}

// target is the installation for the suite. Its instances are pods, which call
// the suite.
func (i *installation) target(t *testing.T) apitest.Target {
	t.Helper()
	return apitest.Target{
		BaseURL:  i.url("gateway"),
		Expire:   i.url("expire") + "/expire",
		Registry: clustertest.Registry(t),
		Dial:     i.dial,
		Pack: func(program []byte) string {
			return clustertest.Image(t, "apitest", map[string][]byte{"program": program})
		},
		Home: i.home(t),
	}
}

// hosts finds the host of a call's function by the routes of the API. What is
// no call goes to some function.
func (i *installation) hosts(t *testing.T) func(*http.Request) string {
	t.Helper()
	const found = "Function"
	router, err := serve.NewRouter(func(verb string) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(found, verb) }), nil
	})
	check(t, err)
	return func(r *http.Request) string {
		answer := httptest.NewRecorder()
		router.ServeHTTP(answer, r)
		verb := answer.Header().Get(found)
		if verb == "" {
			verb = "retrieve-challenge"
		}
		return i.host(verb)
	}
}

// home is an address of this machine that pods reach: the one from which it
// reaches the API server.
func (i *installation) home(t testing.TB) string {
	t.Helper()
	server, err := url.Parse(i.Config.Host)
	check(t, err)
	conn, err := net.Dial("udp", net.JoinHostPort(server.Hostname(), "443")) // this sends nothing
	check(t, err)
	defer func() { check(t, conn.Close()) }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	check(t, err)
	return host
}
