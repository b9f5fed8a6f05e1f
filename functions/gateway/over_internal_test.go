package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"testing"
)

// NewOver returns a gateway that reaches every function over the connections that
// it is given.
func NewOver(f *testing.F, connect func(context.Context, string, string) (net.Conn, error)) *Gateway {
	f.Helper()
	g, err := New(Options{
		Log:    slog.New(slog.DiscardHandler),
		Target: func(string) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "function"}, nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	g.transport.DialContext = connect
	f.Cleanup(g.Close)
	return g
}
