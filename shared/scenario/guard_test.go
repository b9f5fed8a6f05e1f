package scenario

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestGuardTrusts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		registry string
		plain    bool
		url      string
		want     bool
	}{
		{"registry.example:5000", false, "https://registry.example:5000/v2/", true},
		{"registry.example", false, "https://REGISTRY.example:443/v2/", true},
		{"registry.example", false, "http://registry.example/v2/", false},
		{"registry.example", true, "http://registry.example:80/v2/", true},
		{"registry.example:5000", false, "https://registry.example/v2/", false},
		{"127.0.0.1:5000", true, "http://127.0.0.1:5000/token", true},
		{"127.0.0.1:5000", true, "http://127.0.0.1:5001/token", false},
		{"127.0.0.1:5000", true, "https://10.0.0.1/token", false},
		{"localhost:5000", true, "https://localhost/token", false},
		{"registry-1.docker.io", false, "https://auth.docker.io/token", true},
		{"registry-1.docker.io", false, "http://auth.docker.io/token", false},
		{"registry-1.docker.io", false, "https://auth.docker.io.evil.com/token", false},
		{"registry.gitlab.com", false, "https://gitlab.com/jwt/auth", true},
		{"registry.one.co.uk", false, "https://auth.two.co.uk/token", false},
		{"one.github.io", false, "https://two.github.io/token", false},
		{"registry.ctf.svc.cluster.local", true, "https://other.evil.svc.cluster.local/token", false},
	}
	for _, test := range tests {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := (guard{registry: test.registry, plain: test.plain}).trusts(u); got != test.want {
			t.Errorf("%s (plain %t) trusts %s: %t, want %t", test.registry, test.plain, test.url, got, test.want)
		}
	}
}

// An OAuth2 token request has its secret in the body.
func TestGuardReadsBodiesToo(t *testing.T) {
	t.Parallel()
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(server.Close)
	client := http.Client{Transport: guard{registry: "registry.example", next: http.DefaultTransport}}
	response, err := client.Post(server.URL, "application/x-www-form-urlencoded; charset=utf-8", strings.NewReader("refresh_token=secret"))
	if err == nil {
		_ = response.Body.Close()
	}
	if err == nil || asked {
		t.Errorf("the request was sent (%t): %v", asked, err)
	}
}
