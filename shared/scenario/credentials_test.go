package scenario_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

const user, password = "organizer", "correct horse"

// private asks for basic authentication.
func private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A recorder keeps everything it is sent.
type recorder struct {
	mu       sync.Mutex
	requests []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = req.ParseForm()
	r.requests = append(r.requests, fmt.Sprint(req.Method, req.URL, req.Header, req.PostForm))
	w.Header().Set("WWW-Authenticate", `Basic realm="give them to me"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// wantNoSecret fails the test if the recorder saw a credential.
func (r *recorder) wantNoSecret(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for _, request := range r.requests {
		for _, secret := range []string{"Authorization", encoded, password, user, "token-of-a"} {
			if strings.Contains(request, secret) {
				t.Errorf("another host was sent %q: %s", secret, request)
			}
		}
	}
}

func dockerConfig(t *testing.T, hosts ...string) string {
	t.Helper()
	type login struct {
		Auth string `json:"auth"`
	}
	auths := map[string]login{}
	for _, host := range hosts {
		auths[host] = login{base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrivateRegistry(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, private)
	none := plain(t).Credentials.DockerConfig
	logins := map[string]struct {
		scenario.Credentials
		denied bool
	}{
		"given":                 {Credentials: scenario.Credentials{Registry: host, Username: user, Password: password, DockerConfig: none}},
		"Docker configuration":  {Credentials: scenario.Credentials{DockerConfig: dockerConfig(t, host)}},
		"none":                  {Credentials: scenario.Credentials{DockerConfig: none}, denied: true},
		"wrong password":        {Credentials: scenario.Credentials{Registry: host, Username: user, Password: "x", DockerConfig: none}, denied: true},
		"for another registry":  {Credentials: scenario.Credentials{Registry: "other:5000", Username: user, Password: password, DockerConfig: none}, denied: true},
		"for its name, no port": {Credentials: scenario.Credentials{Registry: "127.0.0.1", Username: user, Password: password, DockerConfig: none}, denied: true},
	}
	for name, login := range logins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reference := host + "/" + strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(name, ",", "")), " ", "-") + ":1"
			access := scenario.Registries{Insecure: true, Credentials: login.Credentials}
			l := newLibrary(t, scenario.Options{Registries: access})
			_, err := scenario.Push(t.Context(), writeDir(t, prebuilt), reference, access)
			if login.denied {
				wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Precondition, "Registry requires authentication")
				_, err := l.Resolve(t.Context(), reference)
				wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Precondition, "Registry requires authentication")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Resolve(t.Context(), reference)
			if err != nil {
				t.Fatal(err)
			}
			open(t, l, s)
		})
	}
}

func TestCredentialsAreForOneRegistry(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		credentials scenario.Credentials
		says        string
	}{
		"no registry": {scenario.Credentials{Username: user, Password: password}, "set OCI_REGISTRY"},
		"no password": {scenario.Credentials{Registry: "r", Username: user}, "OCI_PASSWORD"},
		"no user":     {scenario.Credentials{Registry: "r", Password: password}, "OCI_USERNAME"},
		"a URL":       {scenario.Credentials{Registry: "https://r", Username: user, Password: password}, "host[:port]"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := scenario.New(scenario.Options{CacheDir: t.TempDir(), Registries: scenario.Registries{Credentials: test.credentials}})
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("New returns %v, want an error that says %q", err, test.says)
			}
		})
	}
}

func TestCredentialsAreSentToNoOtherHost(t *testing.T) {
	t.Parallel()
	other := &recorder{}
	otherHost := startServer(t, other)

	var requests []string
	var mu sync.Mutex
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, r.URL.Path)
	}
	registries := map[string]http.HandlerFunc{
		"redirect of the manifest": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+otherHost+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"redirect after the login": func(w http.ResponseWriter, r *http.Request) {
			private(http.RedirectHandler("http://"+otherHost+r.URL.Path, http.StatusTemporaryRedirect)).ServeHTTP(w, r)
		},
		"token realm elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+otherHost+`/token",service="s",scope="pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"token realm that redirects": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				http.Redirect(w, r, "http://"+otherHost+"/token", http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s",scope="pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"token and then a redirect": func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token":
				_, _ = w.Write([]byte(`{"token":"token-of-a"}`))
			case r.Header.Get("Authorization") == "Bearer token-of-a":
				http.Redirect(w, r, "http://"+otherHost+r.URL.Path, http.StatusFound)
			default:
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s",scope="pull"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
	}
	for name, handler := range registries {
		t.Run(name, func(t *testing.T) {
			host := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				note(r)
				handler(w, r)
			}))
			for _, credentials := range []scenario.Credentials{
				{Registry: host, Username: user, Password: password, DockerConfig: plain(t).Credentials.DockerConfig},
				{DockerConfig: dockerConfig(t, host)},
			} {
				l := newLibrary(t, scenario.Options{Registries: scenario.Registries{Credentials: credentials}})
				if _, err := l.Resolve(t.Context(), host+"/web:1"); err == nil {
					t.Error("the reference was resolved")
				}
			}
			other.wantNoSecret(t)
		})
	}
	if !slices.Contains(requests, "/token") {
		t.Error("no token was asked for: the test proves nothing")
	}
	if len(other.requests) == 0 {
		t.Error("no redirect was followed: the test proves nothing")
	}
}

func TestCredentialsAreNotSentToARegistryOfTheCaller(t *testing.T) {
	t.Parallel()
	other := &recorder{}
	otherHost := startServer(t, other)
	l := newLibrary(t, scenario.Options{Registries: scenario.Registries{Credentials: scenario.Credentials{
		Registry: "registry.example:5000", Username: user, Password: password, DockerConfig: dockerConfig(t, "another.example"),
	}}})
	_, err := l.Resolve(t.Context(), otherHost+"/web:1")
	wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Precondition, "Registry requires authentication")
	other.wantNoSecret(t)
}

func TestCredentialHelper(t *testing.T) {
	host := startRegistry(t, private)
	dir := t.TempDir()
	helper := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = get ] && echo '{\"Username\":%q,\"Secret\":%q}'\n", user, password)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"credHelpers":{"`+host+`":"test"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	access := scenario.Registries{Insecure: true, Credentials: scenario.Credentials{DockerConfig: config}}
	if _, err := scenario.Push(t.Context(), writeDir(t, prebuilt), host+"/s:1", access); err != nil {
		t.Error(err)
	}
}

func TestDockerConfigurationIsReadAnew(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, private)
	config := filepath.Join(t.TempDir(), "config.json")
	l := newLibrary(t, scenario.Options{Registries: scenario.Registries{Credentials: scenario.Credentials{DockerConfig: config}}})
	if _, err := l.Resolve(t.Context(), host+"/s:1"); ctf.ReasonOf(err) != ctf.ReasonOCIInteraction {
		t.Errorf("without a login: %v", err)
	}
	if err := os.Rename(dockerConfig(t, host), config); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resolve(t.Context(), host+"/s:1"); ctf.ReasonOf(err) != ctf.ReasonReferenceNotFound {
		t.Errorf("with a login: %v", err)
	}
}
