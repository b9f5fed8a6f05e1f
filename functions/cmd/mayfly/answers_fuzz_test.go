package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
)

// An answering server says the same to everybody.
type answering struct {
	status      int
	contentType string
	body        string
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	status := 100 + int(uint(a.status)%500)
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Request: r,
		Header: http.Header{"Content-Type": {a.contentType}}, Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}

// FuzzAnswer has a server answer anything to the client. What it shows, be it an
// answer or a failure, can be read, and commands no terminal.
func FuzzAnswer(f *testing.F) {
	f.Add(100, "application/json", `{"id":"a\u001b[2J\u202e","timeout":"-9e9s","until":"0001-01-01T00:00:00Z","additional":{"":"\n"},"min":"1","max":"-1","instances":[{"flags":["a\tb"]}]}`, false)
	f.Add(100, "application/json", `{"challengeId":"c","sourceId":"s","since":"9999-12-31T23:59:59Z","until":"2030-01-01T00:00:00Z","connectionInfo":"nc a 1\u0000","flags":[""]}`, true)
	f.Add(304, "application/json", `{"code":"not_found","message":"m\u001b","details":[{"type":"google.rpc.ErrorInfo","value":"CglVTkFWQUlMQUJMRQ"},{"type":"x","value":"!"}]}`, false)
	f.Add(403, "application/json", `{"code":"unavailable","message":"","details":[{"type":"google.rpc.RetryInfo","value":"CgQIARAB"},{"type":"google.rpc.Help","value":"CggKAWESA2I6Yw"}]}`, true)
	f.Add(402, "text/html", "<html>Bad Gateway</html>", false)
	f.Add(100, "application/connect+json", "\x00\x00\x00\x00\x0a{\"id\":\"a\"}\x02\x00\x00\x00\x02{}", true)
	f.Add(100, "application/connect+json", "\x02\x00\x00\x00\x2b{\"error\":{\"code\":\"already_exists\",\"message\":7}}", false)
	f.Fuzz(func(t *testing.T, status int, contentType, body string, programs bool) {
		server := &http.Client{Transport: &answering{status, contentType, body}}
		challenges := challengev1connect.NewChallengeStoreClient(server, "http://h", connect.WithProtoJSON())
		instances := instancev1connect.NewInstanceManagerClient(server, "http://h", connect.WithProtoJSON())
		format := formatTable
		if programs {
			format = formatJSON
		}
		var out, diagnostics bytes.Buffer
		c := &client{url: "http://h", format: format, out: &out, diagnostics: &diagnostics}
		challenge, err := await(t.Context(), c, "", time.Minute, func(ctx context.Context) (*challengev1.Challenge, error) {
			return challenges.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{})
		})
		if err == nil {
			err = c.print(challenge, func(w io.Writer) { writeChallenge(w, challenge) })
		}
		wantReadable(t, format, &out, err)
		instance, err := await(t.Context(), c, "", time.Minute, func(ctx context.Context) (*instancev1.Instance, error) {
			return instances.RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{})
		})
		if err == nil {
			err = c.print(instance, func(w io.Writer) { writeInstance(w, instance) })
		}
		wantReadable(t, format, &out, err)
		all, err := collect(challenges.QueryChallenge(t.Context(), &emptypb.Empty{}))
		if err == nil {
			err = printAll(c, all, func(w io.Writer) { writeChallenges(w, all) })
		}
		wantReadable(t, format, &out, err)
	})
}

// wantReadable fails unless what a command wrote, or else said of its failure, is
// for people or programs to read. It empties out.
func wantReadable(t *testing.T, format string, out *bytes.Buffer, err error) {
	t.Helper()
	defer out.Reset()
	if err == nil && format == formatJSON {
		if !json.Valid(out.Bytes()) {
			t.Errorf("this is no JSON: %s", out)
		}
		return
	}
	if err != nil {
		if out.Len() > 0 {
			t.Errorf("an answer and an error: %q %v", out, err)
		}
		if code := report(out, "mayfly", err); code <= exitOK || code > exitExists {
			t.Errorf("%v ends with the code %d", err, code)
		}
		first, rest, _ := strings.Cut(strings.TrimSuffix(out.String(), "\n"), "\n")
		if said, ok := strings.CutPrefix(first, "Error: "); !ok || strings.TrimSpace(said) == "" {
			t.Errorf("it begins with %q", first)
		}
		for line := range strings.Lines(rest) {
			if !strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "Next: ") {
				t.Errorf("this is neither explanation nor advice: %q", line)
			}
		}
	}
	for _, r := range out.String() {
		if unicode.IsControl(r) && r != '\n' && (err == nil || r != '\t') || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("%q is written: %q", r, out)
		}
	}
}

// FuzzClusterAnswer has an API server answer anything to who asks for a log. It is
// the log, or an error that says something.
func FuzzClusterAnswer(f *testing.F) {
	f.Add(100, "a line\n")
	f.Add(300, `{"kind":"Status","message":"container \"c\" is waiting to start"}`)
	f.Add(304, `{}`)
	f.Add(403, `[`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		c := &cluster{http: &http.Client{Transport: &answering{status: status, body: body}}, base: &url.URL{Scheme: "http", Host: "h"}}
		lines, err := c.log(t.Context(), "n", "p", nil)
		if err != nil {
			if lines != nil || strings.TrimSpace(err.Error()) == "" {
				t.Errorf("%q is the error %q, with %v", body, err, lines)
			}
			return
		}
		defer lines.Close()
		if said, err := io.ReadAll(lines); err != nil || string(said) != body || 100+int(uint(status)%500) != http.StatusOK {
			t.Errorf("%q is the log %q, %v", body, said, err)
		}
	})
}

// FuzzFollow has a cluster tell of any event, twice. It is shown once, in a line.
func FuzzFollow(f *testing.F) {
	f.Add(`{"metadata":{"uid":"u","resourceVersion":"7"},"involvedObject":{"kind":"Pod","name":"p","uid":"o"},"reason":"r","message":" m\n\u001b[2J","type":"Warning","count":3}`)
	f.Add(`{"involvedObject":{"uid":"o"},"count":-1,"message":"\u202e\r\t"}`)
	f.Add(`{"metadata":{"uid":"u"},"involvedObject":{"uid":"o"},"reason":"\u0085"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var event corev1.Event
		if json.Unmarshal([]byte(text), &event) != nil {
			return
		}
		event.InvolvedObject.UID = "o"
		var out bytes.Buffer
		fo := &follower{identity: "0123456789abcdef", out: &out, told: map[types.UID]string{}, owned: map[types.UID]bool{"o": true}}
		fo.event(t.Context(), &event)
		once := out.String()
		fo.event(t.Context(), &event)
		if out.String() != once {
			t.Errorf("it is shown again: %q", out.String())
		}
		if once != "" && (strings.Count(once, "\n") != 1 || !strings.HasSuffix(once, "\n")) {
			t.Errorf("it is shown as %q", once)
		}
		for _, r := range once {
			if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q is shown", r)
			}
		}
		if once == "" && event.ResourceVersion != "" {
			t.Error("it is not shown")
		}
	})
}
