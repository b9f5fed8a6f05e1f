package function

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// knativeProxy is where Knative's proxy in each pod takes the calls of a
	// function that speaks HTTP/2. Health checks are not in flight, see
	// [serve.Options].
	knativeProxy = "http://127.0.0.1:8013/health/liveness"
	// holdEvery is below the half of a minute that the proxy waits for calls.
	holdEvery   = 10 * time.Second
	holdTimeout = time.Second
)

// hold keeps the proxy in front of this function for as long as calls are in
// flight. A proxy that is told to end waits until no call has come for half a
// minute; then it waits for those over HTTP/1.1 to their end, but cuts off those
// over HTTP/2 after a minute. So calls come, of which it need not answer any. The
// function returned ends it.
func hold(ctx context.Context, inFlight *atomic.Int64, proxy string, every time.Duration) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: holdTimeout}
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if inFlight.Load() > 0 {
				call(ctx, client, proxy)
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// call makes a call whose answer does not matter, nor that there is one: the
// proxy may have as many as it hands on, or have ended.
func call(ctx context.Context, client *http.Client, address string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, http.NoBody)
	if err != nil {
		return
	}
	if response, err := client.Do(request); err == nil {
		_ = response.Body.Close()
	}
}
