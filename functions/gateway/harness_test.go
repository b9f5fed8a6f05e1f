package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// deadline is how long a test waits for what must happen.
const deadline = 20 * time.Second

// verbNames are the verbs of the API by their field in [serve.Verbs].
var verbNames = map[string]string{
	"CreateChallenge": "create-challenge", "RetrieveChallenge": "retrieve-challenge", "QueryChallenge": "query-challenge",
	"UpdateChallenge": "update-challenge", "DeleteChallenge": "delete-challenge", "CreateInstance": "create-instance",
	"RetrieveInstance": "retrieve-instance", "QueryInstance": "query-instance", "RenewInstance": "renew-instance",
	"DeleteInstance": "delete-instance",
}

// alone returns the verbs with no other but this one.
func alone(all serve.Verbs, field string) serve.Verbs {
	var one serve.Verbs
	reflect.ValueOf(&one).Elem().FieldByName(field).Set(reflect.ValueOf(all).FieldByName(field))
	return one
}

// A host is a running serve.Run.
type host struct {
	addr, url string
	log       *logBuffer
	stop      func() error
}

// serveOn runs serve.Run on a listener until it is stopped or the test ends.
func serveOn(tb testing.TB, l net.Listener, o serve.Options) *host {
	tb.Helper()
	h := &host{addr: l.Addr().String(), url: "http://" + l.Addr().String(), log: &logBuffer{}}
	o.Log = slog.New(slog.NewJSONHandler(h.log, nil))
	o.DrainFor = deadline
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, l, o) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	tb.Cleanup(func() {
		if err := h.stop(); err != nil {
			tb.Errorf("serve.Run: %v", err)
		}
	})
	return h
}

func listen(tb testing.TB, addr string) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// split runs each verb in a function of its own and returns where they are, by
// the name of the verb.
func split(tb testing.TB, all serve.Verbs, o serve.Options) map[string]*host {
	tb.Helper()
	functions := map[string]*host{}
	for field, name := range verbNames {
		o.Verbs = alone(all, field)
		functions[name] = serveOn(tb, listen(tb, "127.0.0.1:0"), o)
	}
	return functions
}

// to returns a target that finds functions.
func to(functions map[string]*host) func(string) (*url.URL, error) {
	return func(verb string) (*url.URL, error) { return url.Parse(functions[verb].url) }
}

// toOne returns a target that finds every verb at one address.
func toOne(addr string) func(string) (*url.URL, error) {
	return func(string) (*url.URL, error) { return &url.URL{Scheme: "http", Host: addr}, nil }
}

// open serves a gateway.
func open(tb testing.TB, o gateway.Options, s serve.Options) *host {
	tb.Helper()
	log := &logBuffer{}
	o.Log = slog.New(slog.NewJSONHandler(log, nil))
	g, err := gateway.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	s.Calls = g
	// It is closed when the functions are still there, as they stop only when
	// their connections do.
	tb.Cleanup(g.Close)
	h := serveOn(tb, listen(tb, "127.0.0.1:0"), s)
	h.log = log
	return h
}

// dial returns a gRPC connection.
func (h *host) dial(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// h2c is a client of HTTP/2 without TLS.
func h2c(tb testing.TB) *http.Client {
	tb.Helper()
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: deadline}
}

// An answer is what came back for a request.
type answer struct {
	Code   int
	Type   string
	Body   string
	header http.Header
}

// do sends a request over HTTP/1.1 as it is, whatever its path.
func (h *host) do(tb testing.TB, method, path, body string, header ...string) answer {
	tb.Helper()
	target, err := url.Parse(h.url + path)
	if err != nil {
		target = &url.URL{Scheme: "http", Host: h.addr, Opaque: path}
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, h.url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.URL = target
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       deadline,
	}
	res, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	var compacted bytes.Buffer
	if json.Compact(&compacted, raw) == nil {
		raw = compacted.Bytes() // protojson varies its spaces
	}
	return answer{res.StatusCode, res.Header.Get("Content-Type"), string(raw), res.Header}
}

// A logBuffer collects log lines.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) lines(tb testing.TB) []map[string]any {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []map[string]any
	for line := range bytes.Lines(b.text.Bytes()) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			tb.Fatal(err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// receive returns what the channel gives.
func receive[T any](tb testing.TB, from <-chan T) T {
	tb.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(deadline):
		tb.Fatal("nothing came")
		panic("unreachable")
	}
}
