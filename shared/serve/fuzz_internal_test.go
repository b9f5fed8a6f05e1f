package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A callee notes which verb was called, in the way of the functions, with what.
type callee struct {
	verb string
	got  proto.Message
}

func note[Req, Res any](c *callee, verb string) Unary[Req, Res] {
	return func(_ context.Context, _ ctf.Caller, req *Req) (*Res, error) {
		c.verb = verb
		c.got, _ = any(req).(proto.Message)
		return new(Res), nil
	}
}

func noteStream[Req, Res any](c *callee, verb string) Stream[Req, Res] {
	return func(_ context.Context, _ ctf.Caller, req *Req, send func(*Res) error) error {
		c.verb = verb
		c.got, _ = any(req).(proto.Message)
		return send(new(Res))
	}
}

// newCallee returns the handler of an API that calls it.
func newCallee(f *testing.F) (*callee, http.Handler) {
	f.Helper()
	c := &callee{}
	calls, end, err := newAPI(f.Context(), Options{Log: slog.New(slog.DiscardHandler), Verbs: Verbs{
		CreateChallenge:   note[challengev1.CreateChallengeRequest, challengev1.Challenge](c, "create-challenge"),
		RetrieveChallenge: note[challengev1.RetrieveChallengeRequest, challengev1.Challenge](c, "retrieve-challenge"),
		QueryChallenge:    noteStream[emptypb.Empty, challengev1.Challenge](c, "query-challenge"),
		UpdateChallenge:   note[challengev1.UpdateChallengeRequest, challengev1.Challenge](c, "update-challenge"),
		DeleteChallenge:   note[challengev1.DeleteChallengeRequest, emptypb.Empty](c, "delete-challenge"),
		CreateInstance:    note[instancev1.CreateInstanceRequest, instancev1.Instance](c, "create-instance"),
		RetrieveInstance:  note[instancev1.RetrieveInstanceRequest, instancev1.Instance](c, "retrieve-instance"),
		QueryInstance:     noteStream[instancev1.QueryInstanceRequest, instancev1.Instance](c, "query-instance"),
		RenewInstance:     note[instancev1.RenewInstanceRequest, instancev1.Instance](c, "renew-instance"),
		DeleteInstance:    note[instancev1.DeleteInstanceRequest, emptypb.Empty](c, "delete-instance"),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(end)
	return c, calls
}

// request returns one as a server has it, nil if no client can send it.
func request(t *testing.T, method, target string, body io.Reader, header map[string]string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://host"+target, body)
	if err != nil || !strings.HasPrefix(r.URL.Path, "/") {
		return nil
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	for name, value := range header {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	r.ProtoMajor, r.ProtoMinor = 2, 0
	return r
}

// FuzzRouter has a router and the API look at the same request. The router hands
// it on as it came to the verb that the API calls, and says what the API says
// where that calls none.
func FuzzRouter(f *testing.F) {
	const form = "application/x-www-form-urlencoded"
	f.Add(http.MethodPost, "/api/v1/challenge", "{}", "application/json", "")
	f.Add(http.MethodGet, "/api/v1/challenge/a%2fb%25?x=%", "", "", "")
	f.Add(http.MethodPost, "/api/v1/instance/c/s", "a=b", form, http.MethodGet)
	f.Add(http.MethodPatch, "/api/v1/instance/c/..", "", "", "")
	f.Add(http.MethodDelete, "/api/v1/instance//s", "", "", "")
	f.Add(http.MethodGet, "/api/v1/instance?sourceId=%ff", "", "", "")
	f.Add(http.MethodPost, "/api.v1.challenge.ChallengeStore/QueryChallenge", "{}", "application/json", "")
	f.Add(http.MethodPost, "/api.v1.instance.InstanceManager/RenewInstance/", "", "application/proto", "")
	c, api := newCallee(f)
	var verb string
	var seen *http.Request
	router, err := NewRouter(func(name string) (http.Handler, error) {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { verb, seen = name, r }), nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, body, contentType, override string) {
		header := map[string]string{"Content-Type": contentType, "X-Http-Method-Override": override}
		sent := request(t, method, target, strings.NewReader(body), header)
		if sent == nil {
			return
		}
		verb, seen, *c = "", nil, callee{}
		routed, answered := httptest.NewRecorder(), httptest.NewRecorder()
		router.ServeHTTP(routed, sent)
		api.ServeHTTP(answered, request(t, method, target, strings.NewReader(body), header))
		if method == http.MethodPost && contentType == form && override == "" && (c.verb == "") != (verb == "") {
			return // grpc-gateway takes such a form for a GET or not, by the order of a map
		}
		if c.verb != "" && c.verb != verb {
			t.Fatalf("%s is called, and it is handed to %q", c.verb, verb)
		}
		if verb == "" {
			// The router reads no form, so it can't find that one is wrong where nobody is called.
			if _, err := url.ParseQuery(body); err != nil && contentType == form && routed.Code >= http.StatusBadRequest {
				return
			}
			if routed.Code != answered.Code || !sameJSON(routed.Body.Bytes(), answered.Body.Bytes()) {
				t.Errorf("it is answered with %d %s, want %d %s", routed.Code, routed.Body, answered.Code, answered.Body)
			}
			return
		}
		want := request(t, method, target, strings.NewReader(body), header)
		left, err := io.ReadAll(seen.Body)
		if err != nil || string(left) != body || seen.Method != want.Method || *seen.URL != *want.URL || !reflect.DeepEqual(seen.Header, want.Header) {
			t.Errorf("handed on is %s %s with %q: %v", seen.Method, seen.URL, left, err)
		}
	})
}

// sameJSON compares texts, whose spaces protojson varies if they are JSON.
func sameJSON(a, b []byte) bool {
	var as, bs bytes.Buffer
	if json.Compact(&as, a) == nil && json.Compact(&bs, b) == nil {
		return bytes.Equal(as.Bytes(), bs.Bytes())
	}
	return bytes.Equal(a, b)
}

// FuzzRPC sends anything as the body of an RPC, in each protocol. The verb gets
// what was sent, as it is read here once more, or the caller is told in its
// protocol that it is at fault.
func FuzzRPC(f *testing.F) {
	types := []string{
		"application/grpc", "application/grpc+json", "application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text",
		"application/proto", "application/json", "application/connect+proto", "application/connect+json", "application/grpc+x", "text/plain",
	}
	procedures := []string{
		"/api.v1.challenge.ChallengeStore/CreateChallenge", "/api.v1.challenge.ChallengeStore/QueryChallenge",
		"/api.v1.challenge.ChallengeStore/UpdateChallenge", "/api.v1.instance.InstanceManager/CreateInstance",
		"/api.v1.instance.InstanceManager/QueryInstance", "/api.v1.instance.InstanceManager/Nothing",
	}
	message, err := proto.Marshal(&instancev1.CreateInstanceRequest{ChallengeId: "c", SourceId: "s", Additional: map[string]string{"a": "b"}})
	if err != nil {
		f.Fatal(err)
	}
	framed := func(flags byte, length int, data []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(length)), data...) //nolint:gosec // Short enough.
	}
	for n := range types {
		f.Add(byte(n), byte(3), framed(0, len(message), message), "", "")
		f.Add(byte(n), byte(n), []byte(`{"challengeId":"c","sourceId":7}`), "", "1S")
	}
	f.Add(byte(0), byte(0), framed(1, 3, []byte("abc")), "gzip", "99999999H")
	f.Add(byte(2), byte(1), framed(0, 1<<30, nil), "identity", "x")
	f.Add(byte(7), byte(4), append(framed(0, 0, nil), framed(2, 2, []byte("{}"))...), "br", "-1")
	f.Add(byte(5), byte(2), message, "gzip", "")
	c, api := newCallee(f)
	f.Fuzz(func(t *testing.T, kind, procedure byte, body []byte, encoding, timeout string) {
		contentType := types[int(kind)%len(types)]
		r := request(t, http.MethodPost, procedures[int(procedure)%len(procedures)], bytes.NewReader(body), map[string]string{
			"Content-Type": contentType, "Te": "trailers", "Grpc-Encoding": encoding, "Content-Encoding": encoding, "Connect-Content-Encoding": encoding,
			"Grpc-Timeout": timeout, "Connect-Timeout-Ms": timeout,
		})
		*c = callee{}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		res := w.Result()
		code, said := statusOf(t, contentType, res, w.Body.Bytes())
		switch code { //nolint:exhaustive // All others are the caller's fault, or nobody's.
		case codes.Internal:
			// So the protocols call what is no message, a part of one, or more than one.
			if !regexp.MustCompile(`protocol error: |extra bytes after end of stream|unmarshal end stream message`).MatchString(said) {
				t.Errorf("%s %q: %s %s", contentType, body, code, said)
			}
		case codes.Unknown, codes.DataLoss, codes.Unavailable:
			t.Errorf("%s %q: %s %s", contentType, body, code, said)
		case codes.OK:
			if c.verb == "" && res.StatusCode == http.StatusOK {
				t.Errorf("%s %q: no verb was called", contentType, body)
			}
		}
		if c.got != nil {
			if want := c.got.ProtoReflect().New().Interface(); !decode(contentType, encoding, body, want) || !proto.Equal(c.got, want) {
				t.Errorf("%s %q: %s got %v, want %v", contentType, body, c.verb, c.got, want)
			}
		}
	})
}

// decode reads what a client has sent as the body of an RPC: the first message,
// if it is one.
func decode(contentType, encoding string, body []byte, into proto.Message) bool {
	if strings.HasPrefix(contentType, "application/grpc-web-text") {
		text, err := base64.StdEncoding.AppendDecode(nil, body)
		if err != nil {
			return false
		}
		body = text
	}
	packed := encoding == "gzip"
	if strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect") {
		flags, content, _, ok := frame(body)
		if !ok {
			return false
		}
		packed, body = packed && flags == 1, content
	}
	body, ok := plain(packed, body)
	switch {
	case !ok:
		return false
	case strings.HasSuffix(contentType, "json"):
		return len(body) == 0 || protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, into) == nil
	}
	return proto.Unmarshal(body, into) == nil
}

// frame reads the first of a body's messages, as gRPC and Connect frame them.
func frame(body []byte) (flags byte, content, rest []byte, ok bool) {
	const header = 5
	if len(body) < header || uint64(len(body)-header) < uint64(binary.BigEndian.Uint32(body[1:])) {
		return 0, nil, nil, false
	}
	end := header + int(binary.BigEndian.Uint32(body[1:]))
	return body[0], body[header:end], body[end:], true
}

// plain unpacks what is packed. Nothing is nothing in any case.
func plain(packed bool, content []byte) ([]byte, bool) {
	if !packed || len(content) == 0 {
		return content, true
	}
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, false
	}
	content, err = io.ReadAll(reader)
	return content, err == nil
}

// statusOf reads the code of an answer from where its protocol has it.
func statusOf(t *testing.T, contentType string, res *http.Response, body []byte) (code codes.Code, said string) {
	t.Helper()
	if res.StatusCode != http.StatusOK {
		if res.StatusCode >= http.StatusInternalServerError && res.StatusCode != http.StatusNotImplemented && res.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("HTTP %s: %s", res.Status, body)
		}
		return codes.OK, ""
	}
	text, said := "0", ""
	switch {
	case strings.HasPrefix(contentType, "application/grpc-web"):
		header, trailer := res.Header.Get("Grpc-Status"), regexp.MustCompile(`(?i)grpc-status: ?(\d+)`).FindSubmatch(body)
		if text = header; trailer != nil {
			text = string(trailer[1])
		}
		said = res.Header.Get("Grpc-Message") + string(body)
	case strings.HasPrefix(contentType, "application/grpc"):
		if text, said = res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message"); text == "" {
			text, said = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
		}
	case strings.HasPrefix(contentType, "application/connect"):
		var last []byte
		for ok := true; ok; {
			var flags byte
			var content []byte
			if flags, content, body, ok = frame(body); ok {
				last, _ = plain(flags&1 != 0, content)
			}
		}
		if name := regexp.MustCompile(`"code":"([a-z_]+)"`).FindSubmatch(last); name != nil {
			text = `"` + strings.ToUpper(string(name[1])) + `"`
			said = string(last)
		}
	}
	if err := code.UnmarshalJSON([]byte(text)); err != nil {
		t.Errorf("%s is answered without a status, but %q: %q", contentType, text, body)
	}
	return code, said
}

// FuzzTrace reads any header as a traceparent: what is one tells its trace, and
// nothing else tells anything but what could be one.
func FuzzTrace(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes")
	f.Add("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")
	valid := regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$`)
	f.Fuzz(func(t *testing.T, parent string) {
		got := traceOf(http.Header{"Traceparent": {parent}})
		if parts := valid.FindStringSubmatch(parent); parts != nil && got != parts[1] {
			t.Errorf("the trace of %q is %q, want %q", parent, got, parts[1])
		}
		if got != "" && (!regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(got) || !strings.HasPrefix(parent[traceStart:], got+"-")) {
			t.Errorf("the trace of %q is %q", parent, got)
		}
	})
}
