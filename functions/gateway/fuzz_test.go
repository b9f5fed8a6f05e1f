package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/test/bufconn"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// inMemory serves without a network, and returns how to connect to it.
func inMemory(f *testing.F, o serve.Options) func(context.Context, string, string) (net.Conn, error) {
	f.Helper()
	l := bufconn.Listen(256 << 10)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	o.Log, o.DrainFor = slog.New(slog.DiscardHandler), deadline
	go func() { ended <- serve.Run(ctx, l, o) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }
}

// FuzzGateway sends any request to functions, directly and through the gateway.
// Their answers are the same.
func FuzzGateway(f *testing.F) {
	f.Add(http.MethodPost, "/api/v1/instance", `{"challengeId":"c","sourceId":"s","additional":{"a":"b"}}`, "application/json", "", false)
	f.Add(http.MethodGet, "/api/v1/challenge/a%2fb%25?x=%", "", "", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false)
	f.Add(http.MethodGet, "/api/v1/instance?sourceId=missing", "", "", "", false)
	f.Add(http.MethodDelete, "/api/v1/instance/missing/..", "", "", "x", false)
	f.Add(http.MethodPost, "/api.v1.instance.InstanceManager/CreateInstance", `{"challengeId":"c"}`, "application/json", "", false)
	f.Add(http.MethodPost, "/api.v1.instance.InstanceManager/QueryInstance", "\x00\x00\x00\x00\x00", "application/grpc-web+proto", "", false)
	f.Add(http.MethodPost, "/api.v1.challenge.ChallengeStore/QueryChallenge", "\x00\x00\x00\x00\x02{}", "application/connect+json", "", false)
	f.Add(http.MethodPatch, "/api/v1/challenge/a;b", "x", "application/x-www-form-urlencoded", "", true)
	connect := inMemory(f, serve.Options{Verbs: echo()})
	g := gateway.NewOver(f, connect)
	client := func(connect func(context.Context, string, string) (net.Conn, error)) *http.Client {
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, DialContext: connect, DisableCompression: true}
		f.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	direct, through := client(connect), client(inMemory(f, serve.Options{Calls: g}))
	f.Fuzz(func(t *testing.T, method, path, body, contentType, trace string, long bool) {
		if !strings.HasPrefix(path, "/api") {
			return // the gateway has health checks of its own
		}
		if long {
			body += strings.Repeat(" ", 65<<10) // more than is kept to be sent again
		}
		header := http.Header{"Content-Type": {contentType}, "Traceparent": {trace}}
		want, err := ask(t, direct, method, path, body, header)
		if err != nil {
			return // no client sends it
		}
		got, err := ask(t, through, method, path, body, header)
		if err != nil || got != want {
			t.Errorf("through the gateway it is %v %v, want %v", got, err, want)
		}
	})
}

// ask sends a request and returns what can be compared of the answer.
func ask(t *testing.T, client *http.Client, method, path, body string, header http.Header) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://host"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header = header.Clone()
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	var compacted bytes.Buffer
	if json.Compact(&compacted, raw) == nil {
		raw = compacted.Bytes() // protojson varies its spaces
	}
	return fmt.Sprintf("%s %v %q %v", res.Status, res.Header["Content-Type"], raw, res.Trailer), nil
}
