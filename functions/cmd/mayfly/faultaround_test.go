//go:build faults

package main_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fillpool "github.com/mayfly-ctf/mayfly/functions/fill-pool"
	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// A brokenRegistry serves scenarios, as long as it is not told to break.
type brokenRegistry struct {
	address string
	// away has it end each connection without an answer, and damaged has it get
	// each blob wrong; broken counts to whom it did.
	away, damaged atomic.Bool
	broken        atomic.Int64
}

func newBrokenRegistry(t *testing.T) *brokenRegistry {
	t.Helper()
	whole, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &brokenRegistry{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.away.Load() {
			b.broken.Add(1)
			panic(http.ErrAbortHandler)
		}
		if b.damaged.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			b.broken.Add(1)
			w = damaging{w}
		}
		whole.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.address = strings.TrimPrefix(server.URL, "http://")
	return b
}

// damaging gets one bit of all that is written wrong.
type damaging struct{ http.ResponseWriter }

func (d damaging) Write(p []byte) (int, error) {
	wrong := bytes.Clone(p)
	if len(wrong) > 0 {
		wrong[len(wrong)/2] ^= 1
	}
	return d.ResponseWriter.Write(wrong)
}

// A broker takes all events of a system and hands them to its functions: each
// once and in order or, while it is broken, not at all, twice, and in any order.
type broker struct {
	URL string
	to  func() string // the server of a delivery

	mu     sync.Mutex
	broken bool
	random *rand.Rand
	wrong  int64 // events that came late, twice or never
}

// lateness is how late a broken broker delivers at most.
const lateness = 2 * time.Second

func newBroker(t *testing.T, to func() string, random *rand.Rand) *broker {
	t.Helper()
	b := &broker{to: to, random: random}
	var deliveries sync.WaitGroup
	stopped := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		path := functionOf(ctf.EventType(strings.TrimPrefix(r.Header.Get("Ce-Type"), events.TypePrefix)))
		if path == "" {
			return
		}
		for _, late := range b.times() {
			deliveries.Go(func() {
				select {
				case <-time.After(late):
				case <-stopped:
				}
				deliver(b.to()+path, r.Header, body)
			})
		}
	}))
	t.Cleanup(func() {
		close(stopped)
		server.Close()
		deliveries.Wait()
	})
	b.URL = server.URL
	return b
}

// times is how late each delivery of an event is.
func (b *broker) times() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.broken {
		return []time.Duration{0}
	}
	b.wrong++
	times := make([]time.Duration, b.random.IntN(3))
	for n := range times {
		times[n] = time.Duration(b.random.Int64N(int64(lateness)))
	}
	return times
}

func (b *broker) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wrong
}

func (b *broker) set(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func functionOf(kind ctf.EventType) string {
	switch {
	case slices.Contains(fillpool.Types(), kind):
		return "/fill-pool"
	case slices.Contains(reconcile.Types(), kind):
		return "/reconcile"
	}
	return ""
}

// deliver makes one try: what comes of it is as uncertain as all of it.
func deliver(url string, header http.Header, body []byte) {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return
	}
	request.Header = header.Clone()
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
	}
}
