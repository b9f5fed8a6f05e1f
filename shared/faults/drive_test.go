package faults_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// TestBetween: what an ingress says of itself is no answer, where there is one.
func TestBetween(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status  int
		body    string
		between bool
		want    faults.Outcome
	}{
		"an ingress says so":                {http.StatusBadGateway, "Bad Gateway", true, faults.Unclear},
		"an ingress does not know why":      {http.StatusInternalServerError, "Internal Server Error", true, faults.Unclear},
		"there is no ingress":               {http.StatusBadGateway, "Bad Gateway", false, faults.Wrong},
		"an ingress knows no such function": {http.StatusNotFound, "404 page not found", true, faults.Wrong},
		"Mayfly itself says so": {
			http.StatusServiceUnavailable, `{"details":[{"reason":"UNAVAILABLE"}]}`, true, faults.Unclear,
		},
		"Mayfly does not know why": {
			http.StatusInternalServerError, `{"details":[{"reason":"INTERNAL"}]}`, true, faults.Wrong,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host != "gateway.example" {
					t.Errorf("asked for %s", r.Host)
				}
				w.WriteHeader(answer.status)
				_, _ = w.Write([]byte(answer.body))
			}))
			defer server.Close()
			calls := faults.Drive(t.Context(), faults.Load{
				URLs: []string{"http://gateway.example"}, Challenges: []string{"1"}, Clients: 1, Together: 1, Calls: 2,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(server.URL, "http://"))
				},
				Between: answer.between, Began: time.Now(),
			})
			if len(calls) != 2 {
				t.Errorf("%d calls, want 2", len(calls))
			}
			for _, c := range calls {
				if c.Outcome != answer.want {
					t.Errorf("%s is %s, want %s: %s", c.Verb, c.Outcome, answer.want, c.Answer)
				}
			}
		})
	}
}
