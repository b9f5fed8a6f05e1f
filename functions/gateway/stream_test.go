package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// stepwise is a stream of challenges that sends the next one when it is told
// to, and ends when next is closed or its caller leaves.
type stepwise struct {
	next chan string
	left chan error
}

func (s *stepwise) query(ctx context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
	for {
		select {
		case id, ok := <-s.next:
			if !ok {
				return nil
			}
			if err := send(&challengev1.Challenge{Id: id}); err != nil {
				return err
			}
		case <-ctx.Done():
			s.left <- ctx.Err()
			return ctx.Err()
		}
	}
}

// Each message arrives before the function makes the next.
func TestStreamsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, *host) (next func() string, ended func() bool){
		"gRPC": func(t *testing.T, g *host) (func() string, func() bool) {
			stream, err := challengev1.NewChallengeStoreClient(g.dial(t)).QueryChallenge(t.Context(), &emptypb.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			return func() string {
				c, err := stream.Recv()
				if err != nil {
					t.Error(err)
				}
				return c.GetId()
			}, func() bool { _, err := stream.Recv(); return err == io.EOF } //nolint:errorlint // grpc returns it bare.
		},
		"gRPC-Web":            connectStream(&http.Client{}, connect.WithGRPCWeb()),
		"Connect":             connectStream(&http.Client{}),
		"Connect over HTTP/2": connectStream(h2c(t)),
		"REST": func(t *testing.T, g *host) (func() string, func() bool) {
			res, err := http.Get(g.url + "/api/v1/challenge")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = res.Body.Close() })
			lines := bufio.NewScanner(res.Body)
			return func() string {
				lines.Scan()
				_, rest, _ := strings.Cut(lines.Text(), `"id":`)
				id, _, _ := strings.Cut(strings.TrimLeft(rest, ` "`), `"`)
				return id
			}, func() bool { return !lines.Scan() && lines.Err() == nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verb := &stepwise{next: make(chan string, 1), left: make(chan error, 1)}
			g := open(t, gateway.Options{Target: to(split(t, serve.Verbs{QueryChallenge: verb.query}, serve.Options{}))}, serve.Options{})
			verb.next <- "first"
			next, ended := start(t, g)
			if id := next(); id != "first" {
				t.Errorf("got %q", id)
			}
			for _, id := range []string{"second", "third"} {
				verb.next <- id
				if got := next(); got != id {
					t.Errorf("got %q, want %q", got, id)
				}
			}
			close(verb.next)
			if !ended() {
				t.Error("the stream did not end")
			}
		})
	}
}

func connectStream(client *http.Client, options ...connect.ClientOption) func(*testing.T, *host) (func() string, func() bool) {
	return func(t *testing.T, g *host) (func() string, func() bool) {
		stream, err := challengev1connect.NewChallengeStoreClient(client, g.url, options...).QueryChallenge(t.Context(), &emptypb.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stream.Close() })
		return func() string {
			if !stream.Receive() {
				t.Error(stream.Err())
				return ""
			}
			return stream.Msg().GetId()
		}, func() bool { return !stream.Receive() && stream.Err() == nil }
	}
}

// A long request reaches the function while it is still being sent.
func TestLongRequestsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	function := rawFunction(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1<<20))
		close(begun)
		n, err := io.Copy(w, r.Body)
		if n != 1 || err != nil {
			t.Errorf("the rest is %d bytes, %v", n, err)
		}
	})
	g := open(t, gateway.Options{Target: toOne(function)}, serve.Options{})
	body, sent := io.Pipe()
	go func() {
		_, _ = sent.Write(make([]byte, 1<<20))
		<-begun
		_, _ = sent.Write([]byte("!"))
		_ = sent.Close()
	}()
	res, err := (&http.Client{Timeout: deadline}).Post(g.url+"/api/v1/instance", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); string(got) != "!" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLeavingReachesTheFunction(t *testing.T) {
	t.Parallel()
	verb := &stepwise{next: make(chan string, 1), left: make(chan error, 1)}
	entered, left := make(chan struct{}, 1), make(chan error, 1)
	g := open(t, gateway.Options{Target: to(split(t, serve.Verbs{
		QueryChallenge: verb.query,
		CreateInstance: func(ctx context.Context, _ ctf.Caller, _ *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			entered <- struct{}{}
			<-ctx.Done()
			left <- ctx.Err()
			return nil, ctx.Err()
		},
	}, serve.Options{}))}, serve.Options{})

	ctx, leave := context.WithCancel(t.Context())
	stream, err := challengev1.NewChallengeStoreClient(g.dial(t)).QueryChallenge(ctx, &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	verb.next <- "first"
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	leave()
	_ = receive(t, verb.left)

	for name, call := range map[string]func(context.Context) error{
		"gRPC": func(ctx context.Context) error {
			_, err := instancev1.NewInstanceManagerClient(g.dial(t)).CreateInstance(ctx, &instancev1.CreateInstanceRequest{})
			return err
		},
		"REST": func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/api/v1/instance", strings.NewReader("{}"))
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				_ = res.Body.Close()
			}
			return err
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		receive(t, entered)
		leave()
		_ = receive(t, left)
		if err := receive(t, ended); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if lines := g.log.lines(t); len(lines) != 0 {
		t.Errorf("who leaves is nothing to log: %v", lines)
	}
}

func TestDeadlinesReachTheFunction(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Second
	ends := make(chan time.Time, 1)
	g := open(t, gateway.Options{Target: to(split(t, serve.Verbs{
		RetrieveInstance: func(ctx context.Context, _ ctf.Caller, _ *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			end, _ := ctx.Deadline()
			ends <- end
			return &instancev1.Instance{}, nil
		},
		CreateInstance: func(ctx context.Context, _ ctf.Caller, _ *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}, serve.Options{}))}, serve.Options{})
	instances := instancev1.NewInstanceManagerClient(g.dial(t))
	for name, call := range map[string]func(){
		"grpc-timeout": func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, _ = instances.RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{})
		},
		"connect-timeout-ms": func() {
			g.do(t, http.MethodPost, "/api.v1.instance.InstanceManager/RetrieveInstance", "{}",
				"Content-Type", "application/json", "Connect-Timeout-Ms", "300000")
		},
		"grpc-timeout of REST": func() { g.do(t, http.MethodGet, "/api/v1/instance/1/2", "", "Grpc-Timeout", "300S") },
	} {
		go call()
		if left := time.Until(receive(t, ends)); left > limit || left < limit-deadline {
			t.Errorf("%s: %s are left", name, left)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	got := g.do(t, http.MethodPost, "/api/v1/instance", "{}", "Grpc-Timeout", "50m")
	if got.Code != http.StatusGatewayTimeout || !strings.Contains(got.Body, `"code":4`) {
		t.Errorf("REST: %d %s", got.Code, got.Body)
	}
}

func TestTraces(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	seen := make(chan http.Header, 1)
	g := open(t, gateway.Options{Target: toOne(rawFunction(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.Header().Set("Content-Type", "application/json")
	}))}, serve.Options{})
	g.do(t, http.MethodGet, "/api/v1/challenge/1", "", "Traceparent", parent, "Tracestate", "a=1", "Baggage", "b=2")
	if h := receive(t, seen); h.Get("Traceparent") != parent || h.Get("Tracestate") != "a=1" || h.Get("Baggage") != "b=2" {
		t.Errorf("got %v", h)
	}
	ids := map[string]bool{}
	for range 2 {
		g.do(t, http.MethodGet, "/api/v1/challenge/1", "")
		made := receive(t, seen).Get("Traceparent")
		if len(made) != len(parent) || !strings.HasPrefix(made, "00-") || !strings.HasSuffix(made, "-00") {
			t.Errorf("made %q", made)
		}
		ids[made] = true
	}
	if len(ids) != 2 {
		t.Errorf("made %v", ids)
	}
}

// An answer over gRPC that is nothing but an error may come in one piece from a
// proxy before the function.
func TestAnswersOfTrailersAlone(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{Target: toOne(rawFunction(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Grpc-Status", "8")
		w.Header().Set("Grpc-Message", "too much")
	}))}, serve.Options{})
	instances := instancev1.NewInstanceManagerClient(g.dial(t))
	for range 1000 { // A head that is flushed too early is a matter of chance.
		_, err := instances.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{}, grpc.WaitForReady(true))
		if got := status.Convert(err); got.Code() != codes.ResourceExhausted || got.Message() != "too much" {
			t.Fatalf("got %v", err)
		}
	}
}

// rawFunction serves a handler over HTTP/2 without TLS and returns its address.
func rawFunction(tb testing.TB, handle http.HandlerFunc) string {
	tb.Helper()
	l := listen(tb, "127.0.0.1:0")
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handle, Protocols: protocols}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // It ends by Close alone.
	}()
	tb.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return l.Addr().String()
}
