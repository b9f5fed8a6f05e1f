//go:build cluster

package kubernetes_test

import (
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// A proxy stands between workers and the API server, and can be cut.
type proxy struct {
	kubeconfig string
	address    string
	upstream   string

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
	running  sync.WaitGroup
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	ok(t, err)
	p := &proxy{address: "127.0.0.1:0", kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	server, err := url.Parse(cluster.Server)
	ok(t, err)
	p.upstream = server.Host
	ok(t, p.listen())
	t.Cleanup(func() {
		_ = p.cut()
		p.running.Wait()
	})
	if cluster.TLSServerName == "" {
		cluster.TLSServerName = server.Hostname()
	}
	server.Host = p.address
	cluster.Server = server.String()
	ok(t, clientcmd.WriteToFile(*config, p.kubeconfig))
	return p
}

// listen lets connections through, from now on.
func (p *proxy) listen() error {
	listener, err := net.Listen("tcp", p.address)
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
func (p *proxy) join(theirs net.Conn) {
	ours, err := net.Dial("tcp", p.upstream)
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

// cut ends all connections, and refuses new ones.
func (p *proxy) cut() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.listener.Close()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
	return err
}
