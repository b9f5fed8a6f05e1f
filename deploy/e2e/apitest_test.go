//go:build cluster

package e2e_test

import (
	"net"
	"net/url"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/apitest"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// testAPI runs the black-box suite through the gateway. Its instances are pods,
// which call the suite.
func testAPI(t *testing.T, i *installation) {
	apitest.Run(t, apitest.Target{
		BaseURL:  i.url("gateway"),
		Expire:   i.url("expire") + "/expire",
		Registry: clustertest.Registry(t),
		Dial:     i.dial,
		Pack: func(program []byte) string {
			return clustertest.Image(t, "apitest", map[string][]byte{"program": program})
		},
		Home: i.home(t),
	})
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
