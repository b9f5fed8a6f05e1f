package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// authenticate lets those pass who show the token. An empty one lets all pass.
func authenticate(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Hashes are all of one length, so the time taken tells nothing of the
		// token's own.
		if got := sha256.Sum256([]byte(tokenOf(r))); subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header()["Www-Authenticate"] = []string{`Bearer realm="mayfly"`, `Basic realm="mayfly", charset="UTF-8"`}
			WriteError(w, r, ctf.TokenRequired())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenOf returns the token that a request carries, "" for none.
func tokenOf(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
