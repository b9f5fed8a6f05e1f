package serve_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

func TestRESTTakesAnyID(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: echo()})
	for _, id := range []string{
		"7", "a/b", "/", "//x", "a:b", ":", "a b", "é☃", "100%", "%2F", "a+b", "..", ".", "a?b#c", "a;b", "*", "{id}", "a&b=c", `"`, "api", "challenge",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			code, body, _ := s.do(t, http.MethodGet, "/api/v1/challenge/"+escape(id), "")
			if want := `{"id":` + quote(id); code != http.StatusOK || !strings.HasPrefix(body, want) {
				t.Errorf("%d %s, want %s", code, body, want)
			}
			code, body, _ = s.do(t, http.MethodGet, "/api/v1/instance/"+escape(id)+"/"+escape(id), "")
			if want := `{"challengeId":` + quote(id) + `,"sourceId":` + quote(id); code != http.StatusOK || !strings.HasPrefix(body, want) {
				t.Errorf("%d %s, want %s", code, body, want)
			}
		})
	}
}

// escape makes an id fit for a path; dots too, since clients take those out.
func escape(id string) string { return strings.ReplaceAll(url.PathEscape(id), ".", "%2E") }

func quote(id string) string { return `"` + strings.ReplaceAll(id, `"`, `\"`) + `"` }

func TestRESTWithoutAVerb(t *testing.T) {
	t.Parallel()
	verbs := echo()
	verbs.UpdateChallenge = func(_ context.Context, caller ctf.Caller, req *challengev1.UpdateChallengeRequest) (*challengev1.Challenge, error) {
		_, _, err := api.NewChallengeChange(caller, req)
		return &challengev1.Challenge{Id: req.Id}, err
	}
	s := start(t, serve.Options{Verbs: verbs})
	for name, c := range map[string]struct {
		method, path, body string
		code               int
		want               string
	}{
		"an unknown path":       {"GET", "/api/v1/foo", "", 404, `{"code":5,"message":"Not Found","details":[]}`},
		"a path that is longer": {"GET", "/api/v1/challenge/1/2", "", 404, `{"code":5,"message":"Not Found","details":[]}`},
		"a wrong method":        {"PUT", "/api/v1/challenge/1", "", 501, `{"code":12,"message":"Method Not Allowed","details":[]}`},
		"a verb not served":     {"POST", "/api/v1/challenge", "{}", 501, `{"code":12,"message":"This verb is not served here.","details":[]}`},
		"outside":               {"GET", "/foo", "", 404, "404 page not found\n"},
		"no viewer":             {"GET", "/swagger/swagger.json", "", 404, "404 page not found\n"},
		"no event endpoint":     {"POST", "/expire", "", 404, "404 page not found\n"},
		"a body of no JSON":     {"PATCH", "/api/v1/challenge/1", "{", 400, `{"code":3,"message":"`},
		"a wrong type":          {"PATCH", "/api/v1/challenge/1", `{"min":"x"}`, 400, `{"code":3,"message":"`},
		"a mask in snake case":  {"PATCH", "/api/v1/challenge/1", `{"updateMask":"update_mask"}`, 400, `{"code":3,"message":"`},
		"an empty body":         {"PATCH", "/api/v1/challenge/1", "", 200, `{"id":"1",`},
		"unknown keys":          {"PATCH", "/api/v1/challenge/1", `{"foo":1}`, 200, `{"id":"1",`},
		"the id in the body":    {"PATCH", "/api/v1/challenge/1", `{"id":"2"}`, 200, `{"id":"1",`},
		"an unknown enum name":  {"PATCH", "/api/v1/challenge/1", `{"updateStrategy":"burn_down"}`, 200, `{"id":"1",`},
		"an unknown enum number": {
			"PATCH", "/api/v1/challenge/1", `{"updateStrategy":7}`, 400,
			`{"code":3,"message":"Invalid argument: update_strategy 7 is no strategy; use update_in_place (0), blue_green (1) or recreate (2)",` +
				`"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INVALID_ARGUMENT","domain":"github.com/ctfer-io/chall-manager","metadata":{}},`,
		},
		"a body of 10 MB": {
			"PATCH", "/api/v1/challenge/1", `{"scenario":"` + strings.Repeat("x", 10<<20) + `"}`, 400,
			`{"code":3,"message":"the request body is longer than 4 MiB","details":[]}`,
		},
		"a body of nearly 4 MiB": {"PATCH", "/api/v1/challenge/1", `{"scenario":"` + strings.Repeat("x", 4<<20-100) + `"}`, 200, `{"id":"1",`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body, _ := s.do(t, c.method, c.path, c.body)
			if code != c.code || !strings.HasPrefix(body, c.want) {
				t.Errorf("%d %.300s\nwant %d %s", code, body, c.code, c.want)
			}
		})
	}
}

func TestRESTErrors(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: serve.Verbs{
		RetrieveInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			switch req.SourceId {
			case "panic":
				panic("secret")
			case "ours":
				return nil, errors.New("secret")
			default:
				return nil, ctf.InstanceNotFound(ctf.ChallengeID(req.ChallengeId), ctf.SourceID(req.SourceId))
			}
		},
	}})
	const internal = `{"code":13,"message":"An internal error occurred.","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",` +
		`"reason":"INTERNAL_ERROR","domain":"github.com/ctfer-io/chall-manager","metadata":{}}]}`
	for name, c := range map[string]struct {
		path string
		code int
		want string
	}{
		"one of the catalogue": {"/api/v1/instance/7/3", 404, `{"code":5,"message":"Instance not found.","details":[` +
			`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INSTANCE_NOT_FOUND","domain":"github.com/ctfer-io/chall-manager","metadata":{"challenge_id":"7","source_id":"3"}},` +
			`{"@type":"type.googleapis.com/google.rpc.ResourceInfo","resourceType":"Instance","resourceName":"7/3","owner":"","description":"Instance not found."}]}`},
		"any other": {"/api/v1/instance/7/ours", 500, internal},
		"a panic":   {"/api/v1/instance/7/panic", 500, internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body, header := s.do(t, http.MethodGet, c.path, "")
			if code != c.code || body != c.want || header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s\nwant %d %s", code, body, c.code, c.want)
			}
		})
	}
}

func TestRESTStreams(t *testing.T) {
	t.Parallel()
	const failure = `{"error":{"code":5,"message":"Challenge not found.","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",`
	const item = `{"result":{"id":"1","scenario":"","timeout":null,"until":null,"instances":[],"additional":{},"min":"0","max":"0"}}`
	for name, c := range map[string]struct {
		answers int
		err     error
		code    int
		lines   []string
	}{
		"two":                   {2, nil, 200, []string{item, item}},
		"none":                  {0, nil, 200, nil},
		"failure at once":       {0, ctf.ChallengeNotFound("1"), 404, []string{failure}},
		"failure after the two": {2, ctf.ChallengeNotFound("1"), 200, []string{item, item, failure}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, serve.Options{Verbs: serve.Verbs{
				QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
					for range c.answers {
						if err := send(&challengev1.Challenge{Id: "1"}); err != nil {
							return err
						}
					}
					return c.err
				},
			}})
			code, body, _ := s.do(t, http.MethodGet, "/api/v1/challenge?unknown=1", "")
			var lines []string
			for scanner := bufio.NewScanner(strings.NewReader(body)); scanner.Scan(); {
				lines = append(lines, strings.ReplaceAll(scanner.Text(), ", ", ","))
			}
			if code != c.code || len(lines) != len(c.lines) {
				t.Fatalf("%d %q", code, lines)
			}
			for i, want := range c.lines {
				if !strings.HasPrefix(strings.ReplaceAll(lines[i], `": `, `":`), want) {
					t.Errorf("line %d is %s\nwant %s", i, lines[i], want)
				}
			}
		})
	}
}

// What is not available for now says when to ask again; nothing else does.
func TestRESTRetryAfter(t *testing.T) {
	t.Parallel()
	away := ctf.StoreUnavailable(errors.New("the cause"))
	s := start(t, serve.Options{Verbs: serve.Verbs{
		RetrieveInstance: func(context.Context, ctf.Caller, *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			return nil, away
		},
		QueryChallenge: func(context.Context, ctf.Caller, *emptypb.Empty, func(*challengev1.Challenge) error) error {
			return away
		},
		RetrieveChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.RetrieveChallengeRequest) (*challengev1.Challenge, error) {
			if req.GetId() == "busy" {
				return nil, ctf.Busy("they are many", 6100*time.Millisecond)
			}
			return nil, ctf.ChallengeNotFound("1")
		},
	}})
	for path, want := range map[string]struct {
		code  int
		after string
	}{"/instance/1/1": {503, "1"}, "/challenge": {503, "1"}, "/challenge/1": {404, ""}, "/challenge/busy": {429, "7"}} {
		code, body, header := s.do(t, http.MethodGet, "/api/v1"+path, "")
		if code != want.code || header.Get("Retry-After") != want.after {
			t.Errorf("%s: %d %v %s", path, code, header, body)
		}
	}
}

func TestRESTQueryTakesBothSpellings(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: serve.Verbs{
		QueryInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.QueryInstanceRequest, send func(*instancev1.Instance) error) error {
			return send(&instancev1.Instance{SourceId: req.SourceId})
		},
	}})
	for _, query := range []string{"sourceId=a%2Fb", "source_id=a%2Fb"} {
		if _, body, _ := s.do(t, http.MethodGet, "/api/v1/instance?"+query, ""); !strings.Contains(body, `"sourceId":"a/b"`) {
			t.Errorf("%s: %s", query, body)
		}
	}
}

func TestLeavingEndsTheCall(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	s := start(t, serve.Options{Verbs: serve.Verbs{CreateInstance: b.create}})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v1/instance", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-b.entered
		cancel()
	}()
	if res, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
		_ = res.Body.Close()
		t.Errorf("the request ended with %v", err)
	}
	if err := receive(t, b.left); !errors.Is(err, context.Canceled) {
		t.Errorf("the verb ended with %v", err)
	}
}
