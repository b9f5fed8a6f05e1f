package kubernetes

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

// wantNamespace gets one from an API server.
func wantNamespace(t *testing.T, config *rest.Config) {
	t.Helper()
	c, err := newCluster(config, "")
	if err != nil {
		t.Fatal(err)
	}
	k := c.builtin[groupKind{"", "Namespace"}]
	k.Version = "v1"
	if live, err := c.get(t.Context(), k, objectName{name: "a"}); err != nil || live.GetName() != "a" {
		t.Errorf("%v, %v", live, err)
	}
}

// An answer that breaks off is asked for again.
func TestAnswerBreaksOff(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text := `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}`
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		if asked.Add(1) == 1 {
			text = text[:10]
		}
		fmt.Fprint(w, text)
	}))
	defer server.Close()
	wantNamespace(t, &rest.Config{Host: server.URL})
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// So is one whose stream the API server ends, as it does when it takes too long.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}`)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	wantNamespace(t, &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: authority}})
}

// Who is not known now may be so again: a token is renewed, or its holder is
// about to be killed and leaves the work to others.
func TestUnauthorizedMayPass(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}`)
			return
		}
		fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}`)
	}))
	defer server.Close()
	wantNamespace(t, &rest.Config{Host: server.URL})
}
