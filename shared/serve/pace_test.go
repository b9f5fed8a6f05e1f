package serve_test

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// streams are ways to receive the ids of a stream of challenges, "" at its end.
func streams() map[string]func(*testing.T, context.Context, *server) func() string {
	rpc := func(options ...connect.ClientOption) func(*testing.T, context.Context, *server) func() string {
		return func(t *testing.T, ctx context.Context, s *server) func() string {
			client := h2c(t)
			client.Timeout = 0 // it would be that of the whole stream
			stream, err := challengev1connect.NewChallengeStoreClient(client, s.url, options...).QueryChallenge(ctx, &emptypb.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stream.Close() })
			return func() string {
				if !stream.Receive() {
					return ""
				}
				return stream.Msg().GetId()
			}
		}
	}
	return map[string]func(*testing.T, context.Context, *server) func() string{
		"gRPC": rpc(connect.WithGRPC()), "gRPC-Web": rpc(connect.WithGRPCWeb()), "Connect": rpc(),
		"REST": func(t *testing.T, ctx context.Context, s *server) func() string {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/challenge", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
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
			}
		},
	}
}

// A message does not wait for the next one, also after many that came at once.
func TestMessagesDoNotWaitForOthers(t *testing.T) {
	t.Parallel()
	for name, open := range streams() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bursts := make(chan int, 1)
			s := start(t, serve.Options{Verbs: serve.Verbs{
				QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
					sent := 0
					for burst := range bursts {
						for range burst {
							sent++
							if err := send(&challengev1.Challenge{Id: strconv.Itoa(sent)}); err != nil {
								return err
							}
						}
					}
					return nil
				},
			}})
			bursts <- 1
			next := open(t, t.Context(), s)
			received := 0
			receive := func(n int) {
				for range n {
					received++
					if id := next(); id != strconv.Itoa(received) {
						t.Fatalf("got %q, want %d", id, received)
					}
				}
			}
			receive(1)
			for _, burst := range []int{1, 2, 1000, 1, 5000, 3} {
				bursts <- burst
				receive(burst)
			}
			close(bursts)
			if id := next(); id != "" {
				t.Errorf("after the end came %q", id)
			}
		})
	}
}

// A stream that nobody reads any more ends.
func TestLeavingEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, open := range streams() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			s := start(t, serve.Options{Verbs: serve.Verbs{
				QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
					for {
						if err := send(&challengev1.Challenge{Id: "1"}); err != nil {
							ended <- err
							return err
						}
					}
				},
			}})
			ctx, leave := context.WithCancel(t.Context())
			next := open(t, ctx, s)
			if id := next(); id != "1" {
				t.Errorf("got %q", id)
			}
			leave()
			_ = receive(t, ended)
		})
	}
}
