package clustertest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// A Proxy stands between what is tested and the API server, and can be cut.
type Proxy struct {
	// Kubeconfig is a file that leads through the proxy.
	Kubeconfig string

	address  string
	upstream string

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
	running  sync.WaitGroup
}

// NewProxy starts a proxy that lets everything through to the API server of a
// kubeconfig, until the test ends.
func NewProxy(tb testing.TB, kubeconfig string) *Proxy {
	tb.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	check(tb, err)
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	server, err := url.Parse(cluster.Server)
	check(tb, err)
	// An address of its own: nobody takes the port while the proxy is cut.
	own := fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	p := &Proxy{address: own, upstream: server.Host, Kubeconfig: filepath.Join(tb.TempDir(), "kubeconfig")}
	check(tb, p.Mend())
	tb.Cleanup(func() {
		_ = p.Cut() // it may be cut
		p.running.Wait()
	})
	if cluster.TLSServerName == "" {
		cluster.TLSServerName = server.Hostname()
	}
	server.Host = p.address
	cluster.Server = server.String()
	check(tb, clientcmd.WriteToFile(*config, p.Kubeconfig))
	return p
}

// Mend lets connections through, from now on.
func (p *Proxy) Mend() error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.address)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.address = listener, listener.Addr().String()
	p.running.Go(func() {
		for {
			theirs, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.join(theirs) })
		}
	})
	return nil
}

// join copies in both directions until one side ends.
func (p *Proxy) join(theirs net.Conn) {
	ours, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.upstream)
	if err != nil {
		_ = theirs.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, theirs, ours)
	p.mu.Unlock()
	var copying sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{theirs: ours, ours: theirs} {
		copying.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.Close()
			_ = from.Close()
		})
	}
	copying.Wait()
}

// Cut ends all connections, and has new ones refused.
func (p *Proxy) Cut() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.listener.Close()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
	return err
}
