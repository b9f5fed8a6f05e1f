package kubernetes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

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
	c, err := newCluster(&rest.Config{Host: server.URL}, "")
	if err != nil {
		t.Fatal(err)
	}
	k := c.builtin[groupKind{"", "Namespace"}]
	k.Version = "v1"
	if live, err := c.get(t.Context(), k, objectName{name: "a"}); err != nil || live.GetName() != "a" {
		t.Errorf("%v, %v", live, err)
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}
