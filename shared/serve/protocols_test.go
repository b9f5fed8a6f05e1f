package serve_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// h2c is a client of HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: deadline}
}

func TestOnePortSpeaksEveryProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: echo()})
	for name, c := range map[string]struct {
		client  *http.Client
		options []connect.ClientOption
	}{
		"connect":                   {&http.Client{}, nil},
		"connect in JSON":           {&http.Client{}, []connect.ClientOption{connect.WithProtoJSON()}},
		"connect over HTTP/2":       {h2c(t), nil},
		"gRPC-Web":                  {&http.Client{}, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC-Web over HTTP/2":      {h2c(t), []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC with +proto":          {h2c(t), []connect.ClientOption{connect.WithGRPC()}},
		"gRPC, compressed requests": {h2c(t), []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := challengev1connect.NewChallengeStoreClient(c.client, s.url, c.options...)
			got, err := client.RetrieveChallenge(t.Context(), &challengev1.RetrieveChallengeRequest{Id: "a/b"})
			if err != nil || got.Id != "a/b" {
				t.Errorf("RetrieveChallenge: %v, %v", got, err)
			}
			stream, err := client.QueryChallenge(t.Context(), &emptypb.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for stream.Receive() {
				n++
			}
			if err := errors.Join(stream.Err(), stream.Close()); err != nil || n != 2 {
				t.Errorf("QueryChallenge: %d answers, %v", n, err)
			}
		})
	}
	t.Run("gRPC", func(t *testing.T) {
		t.Parallel()
		stream, err := challengev1.NewChallengeStoreClient(s.dial(t)).QueryChallenge(t.Context(), &emptypb.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			if _, err = stream.Recv(); n < 2 && err != nil {
				t.Fatal(err)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("the stream ends with %v", err)
		}
	})
	t.Run("REST over HTTP/2", func(t *testing.T) {
		t.Parallel()
		res, err := h2c(t).Get(s.url + "/api/v1/challenge/7")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			t.Errorf("%s %s", res.Proto, res.Status)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", s.addr, &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12})
		if err == nil {
			_ = conn.Close()
			t.Error("the port speaks TLS")
		}
	})
}

func TestErrorsOverGRPC(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: serve.Verbs{
		RetrieveInstance: func(context.Context, ctf.Caller, *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			return nil, ctf.InstanceNotFound("7", "3")
		},
	}})
	client := instancev1.NewInstanceManagerClient(s.dial(t))
	_, err := client.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{})
	got := status.Convert(err)
	if got.Code() != codes.NotFound || got.Message() != "Instance not found." || len(got.Details()) != 2 {
		t.Fatalf("got %v", got)
	}
	info, ok := got.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.Reason != "INSTANCE_NOT_FOUND" || info.Metadata["source_id"] != "3" {
		t.Errorf("first detail: %v", got.Details()[0])
	}
	t.Run("a verb that is not served", func(t *testing.T) {
		t.Parallel()
		_, err := client.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a stream that is not served", func(t *testing.T) {
		t.Parallel()
		stream, err := client.QueryInstance(t.Context(), &instancev1.QueryInstanceRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a message of 5 MiB", func(t *testing.T) {
		t.Parallel()
		_, err := client.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{SourceId: strings.Repeat("x", 5<<20)})
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
}

// Who is told to ask again later learns when, in every protocol.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: serve.Verbs{
		CreateInstance: func(context.Context, ctf.Caller, *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			return nil, ctf.Busy("they are many", 7*time.Second)
		},
	}})
	for name, options := range map[string][]connect.ClientOption{
		"Connect": nil, "gRPC-Web": {connect.WithGRPCWeb()}, "gRPC": {connect.WithGRPC()},
	} {
		_, err := instancev1connect.NewInstanceManagerClient(h2c(t), s.url, options...).CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{})
		failure, ok := errors.AsType[*connect.Error](err)
		if !ok || failure.Code() != connect.CodeResourceExhausted || failure.Meta().Get("Retry-After") != "7" || len(failure.Details()) != 2 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		detail, err := failure.Details()[1].Value()
		if info, ok := detail.(*errdetails.RetryInfo); err != nil || !ok || info.GetRetryDelay().AsDuration() != 7*time.Second {
			t.Errorf("%s: %v %v", name, detail, err)
		}
	}
}

// A verb that outlives the limit is answered for, in every protocol, though its
// caller has no deadline.
func TestLimit(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	verbs := serve.Verbs{
		CreateInstance: b.create,
		QueryChallenge: func(ctx context.Context, _ ctf.Caller, _ *emptypb.Empty, _ func(*challengev1.Challenge) error) error {
			<-ctx.Done()
			return context.Cause(ctx)
		},
	}
	s := start(t, serve.Options{Verbs: verbs, Limit: 50 * time.Millisecond})
	for name, options := range map[string][]connect.ClientOption{
		"connect":  nil,
		"gRPC-Web": {connect.WithGRPCWeb()},
		"gRPC":     {connect.WithGRPC()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := instancev1connect.NewInstanceManagerClient(h2c(t), s.url, options...).
				CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{})
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
				t.Errorf("CreateInstance: %v", err)
			}
			stream, err := challengev1connect.NewChallengeStoreClient(h2c(t), s.url, options...).QueryChallenge(t.Context(), &emptypb.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeDeadlineExceeded {
				t.Errorf("QueryChallenge: %v", stream.Err())
			}
			_ = stream.Close() // it has failed
		})
	}
	t.Run("REST", func(t *testing.T) {
		t.Parallel()
		if code, body, _ := s.do(t, http.MethodPost, "/api/v1/instance", "{}"); code != http.StatusGatewayTimeout {
			t.Errorf("%d %s", code, body)
		}
	})
}

func TestIdempotencyKeyReachesTheVerb(t *testing.T) {
	t.Parallel()
	verbs := serve.Verbs{
		CreateInstance: func(ctx context.Context, _ ctf.Caller, _ *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			return &instancev1.Instance{ConnectionInfo: api.IdempotencyKey(ctx)}, nil
		},
	}
	s := start(t, serve.Options{Verbs: verbs})
	t.Run("from a REST header", func(t *testing.T) {
		t.Parallel()
		_, body, _ := s.do(t, http.MethodPost, "/api/v1/instance", "{}", "Idempotency-Key", "once")
		if !strings.Contains(body, `"connectionInfo":"once"`) {
			t.Error(body)
		}
	})
	t.Run("from gRPC metadata", func(t *testing.T) {
		t.Parallel()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "once")
		got, err := instancev1.NewInstanceManagerClient(s.dial(t)).CreateInstance(ctx, &instancev1.CreateInstanceRequest{})
		if err != nil || got.ConnectionInfo != "once" {
			t.Error(got, err)
		}
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		code, body, _ := s.do(t, http.MethodPost, "/api/v1/instance", "{}", "Idempotency-Key", strings.Repeat("k", 257))
		if code != http.StatusBadRequest || !strings.Contains(body, `"reason":"INVALID_ARGUMENT"`) {
			t.Error(code, body)
		}
	})
}

// A create lasts as long as its deployment; no number of them may keep others
// from being served.
func TestManySlowCallsBlockNobody(t *testing.T) {
	t.Parallel()
	const slow = 400 // more than HTTP/2 servers and clients take by default
	b := newBlocking()
	verbs := echo()
	verbs.CreateInstance = b.create
	s := start(t, serve.Options{Verbs: verbs})
	instances := instancev1.NewInstanceManagerClient(s.dial(t))
	failed := make(chan error, 2*slow)
	for range slow {
		go func() {
			_, err := instances.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{}, grpc.WaitForReady(true))
			failed <- err
		}()
		go func() {
			res, err := http.Post(s.url+"/api/v1/instance", "application/json", strings.NewReader("{}"))
			if err == nil {
				err = res.Body.Close()
			}
			failed <- err
		}()
	}
	for range 2 * slow {
		receive(t, b.entered)
	}
	if code, body, _ := s.do(t, http.MethodGet, "/api/v1/challenge/1", ""); code != http.StatusOK {
		t.Errorf("REST: %d %s", code, body)
	}
	close(b.release)
	for range 2 * slow {
		if err := receive(t, failed); err != nil {
			t.Error(err)
		}
	}
}
