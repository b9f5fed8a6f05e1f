package serve_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

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
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	f.Fuzz(func(t *testing.T, method, path, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+"/api/v1/"+path, strings.NewReader(body))
		if err != nil {
			return // what no client sends
		}
		res, err := client.Do(req)
		if err != nil {
			return // what the client itself refuses to send
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusInternalServerError {
			t.Errorf("%s %q %q: %d %s", method, path, body, res.StatusCode, raw)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && len(raw) > 0 {
			if err := json.NewDecoder(strings.NewReader(string(raw))).Decode(new(any)); err != nil {
				t.Errorf("%s %q %q: %v in %s", method, path, body, err, raw)
			}
		}
	})
}
