package serve_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/cloudevents/sdk-go/v2/event"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

const token = "sesame: open"

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestToken(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: echo(), Token: token, Swagger: true})
	for name, c := range map[string]struct {
		header string
		passes bool
	}{
		"none":                         {"", false},
		"bearer":                       {"Bearer " + token, true},
		"bearer in lower case":         {"bearer " + token, true},
		"basic":                        {basic("", token), true},
		"basic of some user":           {basic("ctfd", token), true},
		"the token as the user":        {basic(token, ""), false},
		"another one":                  {"Bearer sesame", false},
		"a longer one":                 {"Bearer " + token + "!", false},
		"an empty one":                 {"Bearer ", false},
		"an empty password":            {basic("ctfd", ""), false},
		"the token alone":              {token, false},
		"another scheme":               {"Digest " + token, false},
		"basic that is no base64":      {"Basic ???", false},
		"basic without a colon inside": {"Basic " + base64.StdEncoding.EncodeToString([]byte("sesame")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body, header := s.do(t, http.MethodGet, "/api/v1/challenge/1", "", "Authorization", c.header)
			if c.passes {
				if code != http.StatusOK {
					t.Errorf("%d %s", code, body)
				}
				return
			}
			if code != http.StatusUnauthorized || !strings.HasPrefix(body, `{"code":16,"message":"A token is required: `) ||
				!strings.Contains(body, `"reason":"UNAUTHENTICATED"`) || header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s %v", code, body, header)
			}
			if got := strings.Join(header["Www-Authenticate"], ", "); got != `Bearer realm="mayfly", Basic realm="mayfly", charset="UTF-8"` {
				t.Errorf("asks for %s", got)
			}
		})
	}
	t.Run("paths", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]int{
			"/healthcheck": http.StatusOK, "/health/liveness": http.StatusOK, "/swagger/": http.StatusUnauthorized, "/foo": http.StatusUnauthorized,
			"/api/v1/foo": http.StatusUnauthorized,
		} {
			if code, body, _ := s.do(t, http.MethodGet, path, ""); code != want {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	})
}

// An event comes from a broker, which has no token.
func TestEventsNeedNoToken(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Token: token, Events: map[string]serve.EventHandler{
		"/expire": func(context.Context, event.Event) error { return nil },
	}})
	code, body, _ := s.do(t, http.MethodPost, "/expire", "",
		"Ce-Id", "1", "Ce-Source", "/clock", "Ce-Type", "tick", "Ce-Specversion", "1.0")
	if code != http.StatusNoContent {
		t.Errorf("%d %s", code, body)
	}
}

func TestTokenOverRPC(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: echo(), Token: token})
	for name, options := range map[string][]connect.ClientOption{
		"grpc":          {connect.WithGRPC()},
		"grpc-web":      {connect.WithGRPCWeb()},
		"connect":       nil,
		"connect, JSON": {connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := challengev1connect.NewChallengeStoreClient(h2c(t), s.url, options...)
			ctx, call := connect.NewClientContext(t.Context())
			_, err := client.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: "1"})
			wantTokenRequired(t, err)
			call.RequestHeader().Set("Authorization", "Bearer "+token)
			if _, err := client.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: "1"}); err != nil {
				t.Error(err)
			}
			stream, err := client.QueryChallenge(t.Context(), &emptypb.Empty{})
			if err == nil {
				for stream.Receive() {
					t.Error("a message without a token")
				}
				err = stream.Err()
			}
			wantTokenRequired(t, err)
		})
	}
	t.Run("grpc-go", func(t *testing.T) {
		t.Parallel()
		client := challengev1.NewChallengeStoreClient(s.dial(t))
		_, err := client.RetrieveChallenge(t.Context(), &challengev1.RetrieveChallengeRequest{Id: "1"})
		if got := status.Convert(err); got.Code() != codes.Unauthenticated || len(got.Details()) == 0 {
			t.Errorf("got %v", err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		if _, err := client.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: "1"}); err != nil {
			t.Error(err)
		}
	})
}

func wantTokenRequired(t *testing.T, err error) {
	t.Helper()
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("got %v", err)
		return
	}
	failure, _ := err.(*connect.Error) //nolint:errorlint // CodeOf found it.
	if failure == nil || len(failure.Details()) == 0 {
		t.Errorf("no details: %v", err)
		return
	}
	info, err := failure.Details()[0].Value()
	if info, ok := info.(*errdetails.ErrorInfo); err != nil || !ok || info.GetReason() != "UNAUTHENTICATED" {
		t.Errorf("the first detail is %v, %v", info, err)
	}
}
