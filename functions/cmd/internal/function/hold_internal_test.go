package function

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestHold: the proxy is called again and again while something is in flight.
func TestHold(t *testing.T) {
	t.Parallel()
	var inFlight atomic.Int64
	calls := make(chan int64)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case calls <- inFlight.Load():
		case <-r.Context().Done():
		}
	}))
	defer proxy.Close()
	defer hold(t.Context(), &inFlight, proxy.URL, time.Millisecond)()
	inFlight.Add(1)
	for range 3 {
		if n := <-calls; n == 0 {
			t.Error("a call while nothing was in flight")
		}
	}
}
