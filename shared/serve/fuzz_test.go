package serve_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// FuzzREST sends any request to the API. Every answer under /api/ is JSON, and
// no request is the server's fault.
func FuzzREST(f *testing.F) {
	f.Add(http.MethodPost, "challenge", `{"id":"1","timeout":"600s","until":"2030-01-01T00:00:00Z","additional":{"a":"b"},"min":"1"}`)
	f.Add(http.MethodPatch, "challenge/%2e%2f", `{"updateMask":"timeout,min","updateStrategy":7}`)
	f.Add(http.MethodPost, "challenge", `{"timeout":"1e9s","min":9223372036854775808}`)
	f.Add(http.MethodDelete, "instance/%00/%ff", "")
	f.Add(http.MethodGet, "instance?sourceId=1&sourceId=2&x[y]=%", "")
	s := start(f, serve.Options{Verbs: serve.Verbs{
		CreateChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.CreateChallengeRequest) (*challengev1.Challenge, error) {
			return &challengev1.Challenge{Id: req.GetId(), Timeout: req.GetTimeout(), Until: req.GetUntil(), Additional: req.GetAdditional()}, nil
		},
		UpdateChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.UpdateChallengeRequest) (*challengev1.Challenge, error) {
			return &challengev1.Challenge{Id: req.GetId(), Timeout: req.GetTimeout(), Until: req.GetUntil(), Additional: req.GetAdditional()}, nil
		},
	}})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		res, answer := s.fuzz(t, method, "/api/v1/"+path, body, nil)
		if res == nil {
			return
		}
		if res.StatusCode == http.StatusInternalServerError {
			t.Errorf("%s %q %q: %d %s", method, path, body, res.StatusCode, answer)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && len(answer) > 0 {
			if err := json.NewDecoder(strings.NewReader(answer)).Decode(new(any)); err != nil {
				t.Errorf("%s %q %q: %v in %s", method, path, body, err, answer)
			}
		}
	})
}

// FuzzEvent sends anything as an event, in either mode. A handler gets valid
// events alone, and what it does not get is the sender's fault.
func FuzzEvent(f *testing.F) {
	f.Add("application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1},"time":"2030-01-01T00:00:00Z"}`, "", "", "", "")
	f.Add("application/cloudevents+json; charset=x", `{"specversion":"0.3","id":"","source":"%","type":"t","data_base64":"?"}`, "1.0", "", "", "")
	f.Add("application/json", `{}`, "1.0", "1", "/s", "t")
	f.Add("application/cloudevents-batch+json", `[{}]`, "9.0", "%00", "://", "t")
	var got atomic.Pointer[event.Event]
	s := start(f, serve.Options{Events: map[string]serve.EventHandler{
		"/expire": func(_ context.Context, e event.Event) error {
			got.Store(&e)
			return nil
		},
	}})
	f.Fuzz(func(t *testing.T, contentType, body, version, id, source, kind string) {
		got.Store(nil)
		res, answer := s.fuzz(t, http.MethodPost, "/expire", body, map[string]string{
			"Content-Type": contentType, "Ce-Specversion": version, "Ce-Id": id, "Ce-Source": source, "Ce-Type": kind,
		})
		if res == nil {
			return
		}
		e, want := got.Load(), http.StatusNoContent
		if e == nil {
			want = http.StatusBadRequest
		} else if err := e.Validate(); err != nil {
			t.Errorf("it is handled: %v", err)
		}
		if res.StatusCode != want {
			t.Errorf("%d %s, want %d", res.StatusCode, answer, want)
		}
	})
}

// FuzzToken shows anything instead of the token. Only who has it passes.
func FuzzToken(f *testing.F) {
	f.Add("Bearer " + token)
	f.Add(basic("ctfd", token))
	f.Add(basic(token, ""))
	f.Add("bearer  " + token + " ")
	f.Add("Basic :")
	s := start(f, serve.Options{Verbs: echo(), Token: token})
	f.Fuzz(func(t *testing.T, shown string) {
		res, answer := s.fuzz(t, http.MethodGet, "/api/v1/challenge/1", "", map[string]string{"Authorization": shown})
		if res == nil {
			return
		}
		scheme, rest, _ := strings.Cut(strings.TrimSpace(shown), " ")
		decoded, _ := base64.StdEncoding.DecodeString(rest)
		has := strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(rest) == token ||
			strings.EqualFold(scheme, "Basic") && strings.HasSuffix(string(decoded), ":"+token)
		if passes := res.StatusCode == http.StatusOK; passes && !has || !passes && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q is answered with %d %s", shown, res.StatusCode, answer)
		}
	})
}

// fuzz sends a request and follows no redirect. It returns nothing for one that
// no client sends, or that has longer headers than servers take.
func (s *server) fuzz(t *testing.T, method, path, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		return nil, ""
	}
	for name, value := range header {
		if len(value) > 1<<10 {
			return nil, ""
		}
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return nil, ""
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(raw)
}
