package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// freeAddress returns an address where nobody listens: other tests do so at
// 127.0.0.1, and may get the same port.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	l := listen(tb, "127.0.0.2:0")
	_ = l.Close()
	return l.Addr().String()
}

func TestColdFunctionIsWaitedFor(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	g := open(t, gateway.Options{Target: toOne(address), StartWithin: deadline}, serve.Options{})
	instances := instancev1connect.NewInstanceManagerClient(h2c(t), g.url, connect.WithGRPC())
	bodies := []string{strings.Repeat("x", 100), strings.Repeat("x", 100_000)} // one is kept, one passed on as it comes
	answers := make(chan error, 4)
	for _, body := range bodies {
		go func() {
			got, err := instances.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{ChallengeId: body})
			if err == nil && got.GetChallengeId() != body {
				err = errors.New("the request changed on the way")
			}
			answers <- err
		}()
		go func() {
			res, err := http.Post(g.url+"/api/v1/instance", "application/json", strings.NewReader(`{"challengeId":"`+body+`"}`))
			if err == nil {
				raw, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK || !strings.Contains(string(raw), body) {
					err = errors.New(string(raw))
				}
			}
			answers <- err
		}()
	}
	select {
	case err := <-answers:
		t.Fatalf("an answer although there is no function: %v", err)
	case <-time.After(300 * time.Millisecond): // long enough for several tries
	}
	serveOn(t, listen(t, address), serve.Options{Verbs: echo()})
	for range cap(answers) {
		if err := receive(t, answers); err != nil {
			t.Error(err)
		}
	}
	if lines := g.log.lines(t); len(lines) != 0 {
		t.Errorf("a cold start is nothing to log: %v", lines)
	}
}

// away are the ways in which a function can't be reached.
func away(t *testing.T) map[string]struct {
	address string
	// sent tells that the request may have reached the function.
	sent bool
} {
	t.Helper()
	plain := func(code int) string {
		return rawFunction(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "an ingress speaks", code) })
	}
	return map[string]struct {
		address string
		sent    bool
	}{
		"nobody listens":        {freeAddress(t), false},
		"no such host":          {"function.invalid", false},
		"no route":              {plain(http.StatusNotFound), false},
		"too many requests":     {plain(http.StatusTooManyRequests), false},
		"a bad gateway":         {plain(http.StatusBadGateway), true},
		"no endpoints":          {plain(http.StatusServiceUnavailable), false},
		"a gateway's timeout":   {plain(http.StatusGatewayTimeout), true},
		"an error without body": {rawFunction(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }), true},
		"it breaks off":         {rawFunction(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), true},
		"it hangs up":           {hangUp(t), true},
	}
}

// hangUp returns the address of a listener that closes connections as soon as
// something comes.
func hangUp(t *testing.T) string {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		group.Wait()
	})
	return l.Addr().String()
}

func TestFunctionThatIsAway(t *testing.T) {
	t.Parallel()
	for name, c := range away(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := open(t, gateway.Options{Target: toOne(c.address), StartWithin: 50 * time.Millisecond}, serve.Options{})
			detail := "can't be reached; try again in a moment"
			if c.sent {
				detail = "broke off; look whether it was done before you try again"
			}
			t.Run("REST", func(t *testing.T) {
				got := g.do(t, http.MethodPost, "/api/v1/instance", "{}")
				want := `{"code":14,"message":"The function is not available: create-instance ` + detail +
					`","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"UNAVAILABLE",`
				if got.Code != http.StatusServiceUnavailable || got.Type != "application/json" || !strings.HasPrefix(got.Body, want) {
					t.Errorf("%d %s %s", got.Code, got.Type, got.Body)
				}
				if got.header.Get("Retry-After") != "1" {
					t.Errorf("headers %v", got.header)
				}
			})
			for protocol, options := range map[string][]connect.ClientOption{
				"Connect": nil, "Connect in JSON": {connect.WithProtoJSON()}, "gRPC-Web": {connect.WithGRPCWeb()}, "gRPC": {connect.WithGRPC()},
			} {
				t.Run(protocol, func(t *testing.T) {
					ctx, call := connect.NewClientContext(t.Context())
					_, err := instancev1connect.NewInstanceManagerClient(h2c(t), g.url, options...).
						CreateInstance(ctx, &instancev1.CreateInstanceRequest{})
					wantAway(t, err, "create-instance "+detail)
					if failure, ok := errors.AsType[*connect.Error](err); ok && failure.Meta().Get("Retry-After") != "1" &&
						call.ResponseHeader().Get("Retry-After") != "1" {
						t.Errorf("no Retry-After: %v", failure.Meta())
					}
					stream, err := challengev1connect.NewChallengeStoreClient(h2c(t), g.url, options...).QueryChallenge(t.Context(), &emptypb.Empty{})
					_, err = count(stream, err)
					wantAway(t, err, "query-challenge "+detail)
				})
			}
			for _, line := range g.log.lines(t) {
				if line["level"] != "WARN" || line["verb"] == nil || line["error"] == nil || line["trace"] == nil {
					t.Errorf("logged %v", line)
				}
			}
		})
	}
}

func wantAway(t *testing.T, err error, detail string) {
	t.Helper()
	failure, ok := errors.AsType[*connect.Error](err)
	if !ok || failure.Code() != connect.CodeUnavailable || failure.Message() != "The function is not available: "+detail || len(failure.Details()) == 0 {
		t.Errorf("got %v", err)
		return
	}
	value, err := failure.Details()[0].Value()
	if info, ok := value.(*errdetails.ErrorInfo); err != nil || !ok || info.GetReason() != "UNAVAILABLE" {
		t.Errorf("the first detail is %v, %v", value, err)
	}
}

// A caller whose time is up while a function starts is told so.
func TestLeavingAColdFunction(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{Target: toOne(freeAddress(t)), StartWithin: time.Hour}, serve.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := instancev1connect.NewInstanceManagerClient(h2c(t), g.url, connect.WithGRPC()).CreateInstance(ctx, &instancev1.CreateInstanceRequest{})
	if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

// A function whose host has no address is not there at all.
func TestFunctionThatIsNotInstalled(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{Target: gateway.Hosts("http://%s.invalid"), StartWithin: time.Hour}, serve.Options{})
	if got := g.do(t, http.MethodGet, "/api/v1/challenge/1", ""); got.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// A switchboard is one address behind which functions come and go, as a
// cluster's services are.
type switchboard struct {
	addr    string
	current atomic.Pointer[string]
	group   sync.WaitGroup
}

func newSwitchboard(t *testing.T) *switchboard {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	s := &switchboard{addr: l.Addr().String()}
	s.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.group.Go(func() { s.connect(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.group.Wait()
	})
	return s
}

func (s *switchboard) connect(caller net.Conn) {
	defer caller.Close()
	function, err := net.Dial("tcp", *s.current.Load())
	if err != nil {
		return
	}
	defer function.Close()
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = io.Copy(function, caller)
		_ = function.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(caller, function)
	_ = caller.(*net.TCPConn).CloseWrite()
	group.Wait()
}

// One function after the other is drained while another has taken over, under
// load: no call fails.
func TestFunctionsAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const replacements, callers = 10, 16
	board := newSwitchboard(t)
	verbs := echo()
	verbs.CreateInstance = func(_ context.Context, _ ctf.Caller, r *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
		return &instancev1.Instance{ChallengeId: r.ChallengeId}, nil
	}
	newFunction := func() *host {
		h := serveOn(t, listen(t, "127.0.0.1:0"), serve.Options{Verbs: verbs})
		board.current.Store(&h.addr)
		return h
	}
	function := newFunction()
	g := open(t, gateway.Options{Target: toOne(board.addr)}, serve.Options{})
	var calls, failed atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for i := range callers {
		options := [][]connect.ClientOption{nil, {connect.WithGRPC()}, {connect.WithGRPCWeb()}}[i%3]
		client := instancev1connect.NewInstanceManagerClient(h2c(t), g.url, options...)
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				calls.Add(1)
				if _, err := client.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{ChallengeId: "7"}); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	for range replacements {
		from := calls.Load()
		for tick := time.NewTicker(time.Millisecond); calls.Load() < from+500 && failed.Load() == 0; <-tick.C {
			continue
		}
		old := function
		function = newFunction()
		if err := old.stop(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	load.Wait()
	t.Logf("%d calls, %d failed, over %d replacements", calls.Load(), failed.Load(), replacements)
}
