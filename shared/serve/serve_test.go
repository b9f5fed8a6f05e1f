package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// deadline is how long a test waits for what must happen.
const deadline = 20 * time.Second

// A server is a running serve.Run.
type server struct {
	addr string
	url  string
	log  *logBuffer
	// stop ends the context of Run.
	stop context.CancelFunc
	// ended gives what Run returned.
	ended <-chan error
}

// start runs a server until the test ends, when it must drain without error.
func start(t testing.TB, o serve.Options) *server {
	t.Helper()
	s := startLoosely(t, o)
	t.Cleanup(func() {
		s.stop()
		if err := <-s.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// startLoosely leaves it to the test to stop the server and take its end.
func startLoosely(t testing.TB, o serve.Options) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	s := &server{addr: l.Addr().String(), url: "http://" + l.Addr().String(), log: &logBuffer{}, stop: stop}
	o.Log = slog.New(slog.NewJSONHandler(s.log, nil))
	if o.DrainFor == 0 {
		o.DrainFor = deadline
	}
	ended := make(chan error, 1)
	s.ended = ended
	go func() { ended <- serve.Run(ctx, l, o) }()
	return s
}

// dial returns a plain gRPC connection.
func (s *server) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// do sends a request and returns status, body without insignificant spaces, and
// headers.
func (s *server) do(t *testing.T, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	// A client that follows no redirects and keeps no connection.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       deadline,
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var compacted bytes.Buffer
	if json.Compact(&compacted, raw) == nil {
		raw = compacted.Bytes()
	}
	return res.StatusCode, string(raw), res.Header
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

func (b *logBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []map[string]any
	for line := range bytes.Lines(b.text.Bytes()) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// echo are verbs that answer with what they were asked for.
func echo() serve.Verbs {
	return serve.Verbs{
		RetrieveChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.RetrieveChallengeRequest) (*challengev1.Challenge, error) {
			return &challengev1.Challenge{Id: req.Id}, nil
		},
		RetrieveInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			return &instancev1.Instance{ChallengeId: req.ChallengeId, SourceId: req.SourceId}, nil
		},
		QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
			return errors.Join(send(&challengev1.Challenge{Id: "1"}), send(&challengev1.Challenge{Id: "2"}))
		},
	}
}

// blocking is a verb that tells when it runs and ends when it is let go or
// cancelled.
type blocking struct {
	entered, release chan struct{}
	left             chan error
}

func newBlocking() *blocking {
	return &blocking{entered: make(chan struct{}, 1000), release: make(chan struct{}), left: make(chan error, 1000)}
}

func (b *blocking) create(ctx context.Context, _ ctf.Caller, req *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
	b.entered <- struct{}{}
	select {
	case <-b.release:
		b.left <- nil
		return &instancev1.Instance{SourceId: req.SourceId}, nil
	case <-ctx.Done():
		b.left <- ctx.Err()
		return nil, ctx.Err()
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(deadline):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}
