package apitest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// A way is how calls reach the system: each at its own host, and with the
// token. It is a connection for gRPC and a transport for all else.
type way struct {
	target    Target
	base      *url.URL
	transport *http.Transport

	mu sync.Mutex
	// conns are connections by host.
	conns map[string]*grpc.ClientConn
}

func newWay(t *testing.T, target Target) *way {
	t.Helper()
	base, err := url.Parse(target.BaseURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &way{target: target, base: base, transport: &http.Transport{DialContext: target.Dial}, conns: map[string]*grpc.ClientConn{}}
	t.Cleanup(func() {
		w.transport.CloseIdleConnections()
		for _, conn := range w.conns {
			_ = conn.Close()
		}
	})
	return w
}

// host is where a call goes.
func (w *way) host(r *http.Request) string {
	if w.target.Host == nil {
		return w.base.Host
	}
	return w.target.Host(r)
}

// RoundTrip sends what is for the API on its way, and all else where it says.
func (w *way) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != w.base.Host {
		return w.transport.RoundTrip(r)
	}
	sent := r.Clone(r.Context())
	sent.URL.Host = w.host(r)
	sent.Host = sent.URL.Host
	if w.target.Token != "" {
		sent.Header.Set("Authorization", "Bearer "+w.target.Token)
	}
	return w.transport.RoundTrip(sent)
}

// Invoke calls a verb with one answer over gRPC.
func (w *way) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	conn, err := w.conn(ctx, method)
	if err != nil {
		return err
	}
	return conn.Invoke(w.withToken(ctx), method, args, reply, options...)
}

// NewStream calls a verb with a stream of answers over gRPC.
func (w *way) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	conn, err := w.conn(ctx, method)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(w.withToken(ctx), desc, method, options...)
}

func (w *way) withToken(ctx context.Context) context.Context {
	if w.target.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.target.Token)
}

// conn returns the connection to the host of a method.
func (w *way) conn(ctx context.Context, method string) (*grpc.ClientConn, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.target.BaseURL+method, http.NoBody)
	if err != nil {
		return nil, err
	}
	host := w.host(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if conn, ok := w.conns[host]; ok {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+host,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return w.target.Dial(ctx, "tcp", address)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	w.conns[host] = conn
	return conn, nil
}
