package scenario

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// A guard is the last to see a request on its way out, redirects and token
// requests included, and lets none carry a registry's credentials to a host
// that is not the registry's own.
type guard struct {
	registry string // host[:port]
	plain    bool   // the registry is reached over plain HTTP
	next     http.RoundTripper
}

// An elsewhereError says that a registry wanted its credentials sent away.
type elsewhereError struct{ registry, host string }

func (e *elsewhereError) Error() string {
	return fmt.Sprintf("registry %s wants its credentials sent to %s, which is not done", e.registry, e.host)
}

// RoundTrip sends the request, or returns an elsewhereError.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if carriesSecret(req) && !g.trusts(req.URL) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &elsewhereError{registry: g.registry, host: req.URL.Scheme + "://" + req.URL.Host}
	}
	return g.next.RoundTrip(req)
}

// carriesSecret tells whether a request has credentials or a token in its
// header, or in its body, as OAuth2 token requests do.
func carriesSecret(req *http.Request) bool {
	return req.Header.Get("Authorization") != "" ||
		strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

func (g guard) trusts(u *url.URL) bool {
	if !g.plain && u.Scheme != "https" {
		return false
	}
	own := &url.URL{Scheme: u.Scheme, Host: g.registry}
	if strings.EqualFold(u.Hostname(), own.Hostname()) && port(u) == port(own) {
		return true
	}
	domain := registeredDomain(own.Hostname())
	return domain != "" && u.Scheme == "https" && domain == registeredDomain(u.Hostname())
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// registeredDomain returns the domain that somebody registered under a public
// suffix, and nothing for addresses and cluster-local names, whose neighbours
// belong to anybody.
func registeredDomain(host string) string {
	host = strings.ToLower(host)
	if suffix, public := publicsuffix.PublicSuffix(host); !public || suffix == host {
		return ""
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return domain
}
