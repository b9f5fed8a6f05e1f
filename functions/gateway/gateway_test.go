package gateway_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// Each function serves its own verb alone, so a call that is handed to another
// one fails.
func TestEveryVerbInEveryProtocol(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{Target: to(split(t, echo(), serve.Options{}))}, serve.Options{})
	for name, c := range map[string]struct {
		client  *http.Client
		options []connect.ClientOption
	}{
		"connect":             {&http.Client{}, nil},
		"connect in JSON":     {&http.Client{}, []connect.ClientOption{connect.WithProtoJSON()}},
		"connect over HTTP/2": {h2c(t), nil},
		"gRPC-Web":            {&http.Client{}, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC":                {h2c(t), []connect.ClientOption{connect.WithGRPC()}},
		"gRPC, compressed":    {h2c(t), []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyVerb(t, challengev1connect.NewChallengeStoreClient(c.client, g.url, c.options...),
				instancev1connect.NewInstanceManagerClient(c.client, g.url, c.options...))
		})
	}
	t.Run("REST", func(t *testing.T) {
		t.Parallel()
		wants := map[string]string{
			"create-challenge": `{"id":"a"`, "retrieve-challenge": `{"id":"a"`, "query-challenge": `{"result":{"id":"1"`,
			"update-challenge": `{"id":"a"`, "delete-challenge": `{}`,
			"create-instance": `{"challengeId":"c"`, "retrieve-instance": `{"challengeId":"c","sourceId":"s"`,
			"query-instance": `{"result":{"challengeId":"","sourceId":"s"`, "renew-instance": `{"challengeId":"c","sourceId":"s"`, "delete-instance": `{}`,
		}
		for verb, call := range restCalls {
			method, path, _ := strings.Cut(call, " ")
			got := g.do(t, method, path, `{"id":"a","challengeId":"c"}`)
			if body := strings.ReplaceAll(got.Body, ": ", ":"); got.Code != http.StatusOK || !strings.HasPrefix(strings.ReplaceAll(body, ", ", ","), wants[verb]) {
				t.Errorf("%s: %d %s", verb, got.Code, got.Body)
			}
		}
	})
}

// restCalls are a call of each verb over REST.
var restCalls = map[string]string{
	"create-challenge":   "POST /api/v1/challenge",
	"retrieve-challenge": "GET /api/v1/challenge/a",
	"query-challenge":    "GET /api/v1/challenge",
	"update-challenge":   "PATCH /api/v1/challenge/a",
	"delete-challenge":   "DELETE /api/v1/challenge/a",
	"create-instance":    "POST /api/v1/instance",
	"retrieve-instance":  "GET /api/v1/instance/c/s",
	"query-instance":     "GET /api/v1/instance?sourceId=s",
	"renew-instance":     "PATCH /api/v1/instance/c/s",
	"delete-instance":    "DELETE /api/v1/instance/c/s",
}

// Without a gateway each function answers on its own host, its own verb alone.
func TestFunctionsWithoutAGateway(t *testing.T) {
	t.Parallel()
	for name, function := range split(t, echo(), serve.Options{}) {
		conn := function.dial(t)
		for verb, call := range restCalls {
			method, path, _ := strings.Cut(call, " ")
			got := function.do(t, method, path, "{}")
			if verb == name && got.Code != http.StatusOK || verb != name && got.Code != http.StatusNotImplemented {
				t.Errorf("%s at %s: %d %s", verb, name, got.Code, got.Body)
			}
		}
		_, err := instancev1.NewInstanceManagerClient(conn).RenewInstance(t.Context(), &instancev1.RenewInstanceRequest{})
		if want := codes.Unimplemented; name != "renew-instance" && status.Code(err) != want || name == "renew-instance" && err != nil {
			t.Errorf("gRPC at %s: %v", name, err)
		}
	}
}

func everyVerb(t *testing.T, challenges challengev1connect.ChallengeStoreClient, instances instancev1connect.InstanceManagerClient) {
	t.Helper()
	ctx := t.Context()
	for _, id := range []string{"a", "missing"} {
		var want connect.Code
		if id == "missing" {
			want = connect.CodeNotFound
		}
		check := func(verb string, err error) {
			t.Helper()
			if want == 0 && err != nil || want != 0 && connect.CodeOf(err) != want {
				t.Errorf("%s of %s: %v", verb, id, err)
			}
		}
		_, err := challenges.CreateChallenge(ctx, &challengev1.CreateChallengeRequest{Id: id})
		check("create-challenge", err)
		_, err = challenges.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: id})
		check("retrieve-challenge", err)
		_, err = challenges.UpdateChallenge(ctx, &challengev1.UpdateChallengeRequest{Id: id})
		check("update-challenge", err)
		_, err = challenges.DeleteChallenge(ctx, &challengev1.DeleteChallengeRequest{Id: id})
		check("delete-challenge", err)
		_, err = instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: id})
		check("create-instance", err)
		_, err = instances.RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{ChallengeId: id})
		check("retrieve-instance", err)
		_, err = instances.RenewInstance(ctx, &instancev1.RenewInstanceRequest{ChallengeId: id})
		check("renew-instance", err)
		_, err = instances.DeleteInstance(ctx, &instancev1.DeleteInstanceRequest{ChallengeId: id})
		check("delete-instance", err)
	}
	all, err := challenges.QueryChallenge(ctx, &emptypb.Empty{})
	if n, err := count(all, err); n != 2 || err != nil {
		t.Errorf("query-challenge: %d, %v", n, err)
	}
	some, err := instances.QueryInstance(ctx, &instancev1.QueryInstanceRequest{SourceId: "s"})
	if n, err := count(some, err); n != 1 || err != nil {
		t.Errorf("query-instance: %d, %v", n, err)
	}
	some, err = instances.QueryInstance(ctx, &instancev1.QueryInstanceRequest{SourceId: "missing"})
	if n, err := count(some, err); n != 0 || connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("query-instance: %d, %v", n, err)
	}
}

func count[M any](stream *connect.ServerStreamForClient[M], err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n := 0
	for stream.Receive() {
		n++
	}
	return n, stream.Err()
}

// Whatever is asked, the gateway answers as one function with all verbs does.
func TestAnswersAreThoseOfTheFunctions(t *testing.T) {
	t.Parallel()
	direct := serveOn(t, listen(t, "127.0.0.1:0"), serve.Options{Verbs: echo(), Swagger: true})
	through := open(t, gateway.Options{Target: to(split(t, echo(), serve.Options{}))}, serve.Options{Swagger: true})
	paths := []string{
		"/", "/foo", "/api/v1/", "/api/v1/foo", "/api/v1/challenge", "/api/v1/challenge/", "/api/v1/challenge/1/2", "/api/v1/instance/1",
		"/api/v1/instance//", "/api/v1/instance/missing/1", "/api/v1/challenge/missing", "/api/v1//challenge/1", "/api/v1/challenge/../1",
		"/api/v1/challenge/%FF", "/api/v1/challenge/1?x=%FF", "/api/v1/challenge/1?a=1;b=2", "/api/v1/instance?sourceId=a%3Bb&foo=%zz",
		"/api/v1/instance?sourceId=1&sourceId=2", "/expire", "/swagger", "/swagger/swagger.json",
		"/api.v1.challenge.ChallengeStore/Foo", "/api.v1.challenge.ChallengeStore/", "/api.v1.challenge.ChallengeStore/RetrieveChallenge",
		"/api.v1.foo/Bar", "/mayfly.v1/Foo",
	}
	for _, id := range []string{
		"7", "a/b", "/", "//x", "a:b", ":", "a b", "é☃", "100%", "%2F", "a+b", "..", ".", "a?b#c", "a;b", "*", "{id}", "a&b=c", `"`, "challenge", "\x00",
	} {
		paths = append(paths, "/api/v1/challenge/"+strings.ReplaceAll(url.PathEscape(id), ".", "%2E"), "/api/v1/instance?sourceId="+url.QueryEscape(id))
	}
	bodies := map[string]string{
		"nothing": "", "JSON": `{"id":"b"}`, "no JSON": "{", "a wrong type": `{"id":{}}`, "70 kB": `{"id":"` + strings.Repeat("x", 70_000) + `"}`,
		"10 MB": `{"id":"` + strings.Repeat("x", 10<<20) + `"}`,
	}
	headers := map[string][]string{
		"": nil, "an override": {"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded"},
		"an upgrade": {"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"},
		"gRPC":       {"Content-Type", "application/grpc"},
		"JSON":       {"Content-Type", "application/json"},
	}
	same := func(t *testing.T, method, path, body string, header ...string) {
		t.Helper()
		want, got := direct.do(t, method, path, body, header...), through.do(t, method, path, body, header...)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(answer{})); diff != "" {
			t.Errorf("%s %s %.20s %s (-direct +gateway):\n%s", method, path, body, header, diff)
		}
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
				same(t, method, path, "")
			}
			for _, header := range headers {
				same(t, http.MethodPost, path, "id=1", header...)
			}
		})
	}
	for name, body := range bodies {
		t.Run("a body of "+name, func(t *testing.T) {
			t.Parallel()
			same(t, http.MethodPost, "/api/v1/challenge", body)
			same(t, http.MethodPatch, "/api/v1/challenge/1", body)
			same(t, http.MethodPost, "/api.v1.challenge.ChallengeStore/CreateChallenge", body, "Content-Type", "application/json")
		})
	}
}

func TestGatewayAnswersForItself(t *testing.T) {
	t.Parallel()
	// No function is there at all.
	g := open(t, gateway.Options{Target: gateway.Hosts("http://%s.invalid")}, serve.Options{Swagger: true, Version: "1.2.3", Token: "sesame"})
	if got := g.do(t, http.MethodGet, "/healthcheck", ""); got.Code != http.StatusOK || !strings.Contains(got.Body, `"1.2.3"`) {
		t.Errorf("health: %d %s", got.Code, got.Body)
	}
	if got := g.do(t, http.MethodGet, "/swagger/swagger.json", "", "Authorization", "Bearer sesame"); got.Code != http.StatusOK {
		t.Errorf("swagger: %d %s", got.Code, got.Body)
	}
	if got := g.do(t, http.MethodGet, "/api/v1/challenge/1", ""); got.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", got.Code, got.Body)
	}
}

// The functions check the token themselves, so that they may be asked directly.
func TestTokenGoesOn(t *testing.T) {
	t.Parallel()
	o := serve.Options{Token: "sesame"}
	g := open(t, gateway.Options{Target: to(split(t, echo(), o))}, o)
	if got := g.do(t, http.MethodGet, "/api/v1/challenge/1", "", "Authorization", "Bearer sesame"); got.Code != http.StatusOK {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	bare := open(t, gateway.Options{Target: to(split(t, echo(), o))}, serve.Options{})
	if got := bare.do(t, http.MethodGet, "/api/v1/challenge/1", ""); got.Code != http.StatusUnauthorized || got.header.Get("Www-Authenticate") == "" {
		t.Errorf("%d %s %v", got.Code, got.Body, got.header)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for pattern, works := range map[string]bool{
		"http://%s.mayfly.svc.cluster.local": true, "http://%s:8080": true, "http://%s/": true,
		"https://%s": false, "%s": false, "http://mayfly": false, "http://%s.%s": false, "http://%s/api": false, "http://:80%s": false,
		"http://me:you@%s": false, "": false,
	} {
		g, err := gateway.New(gateway.Options{Target: gateway.Hosts(pattern)})
		if works != (err == nil) {
			t.Errorf("%q: %v", pattern, err)
		}
		if g != nil {
			g.Close()
		}
		if err != nil && !strings.Contains(err.Error(), "verb create-challenge: ") {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
