package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const patience = 30 * time.Second

// A receiver is a sink over HTTP that answers as it is told.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	answer   func(id string) int // nil is 204
	received []string            // ids, answered 2xx or not
}

func newReceiver(t *testing.T, answer func(id string) int) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		id := q.Header.Get("Ce-Id")
		r.mu.Lock()
		r.received = append(r.received, id)
		answer := r.answer
		r.mu.Unlock()
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(answer(id))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.received)
}

func (r *receiver) become(answer func(string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func always(status int) func(string) int { return func(string) int { return status } }

// A site is a store, whose outboxes are real, and a publisher.
type site struct {
	*events.Publisher
	t      *testing.T
	store  *redis.Store
	closed bool
}

func newSite(t *testing.T, sinks ...events.Sink) *site {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	store, err := redis.Open(t.Context(), redis.Options{URL: redistest.Start(t), Keys: keys})
	check(t, err)
	p, err := events.NewPublisher(store, sinks, slog.New(slog.DiscardHandler))
	check(t, err)
	s := &site{Publisher: p, t: t, store: store}
	t.Cleanup(func() {
		if !s.closed {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = p.Close(ctx) // what is left does not matter any more
		}
		check(t, store.Close())
	})
	return s
}

// make has a challenge write events and returns their ids, oldest first.
func (s *site) make(id ctf.ChallengeID, count int) (ctf.ChallengeKey, []string) {
	s.t.Helper()
	key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: id}
	check(s.t, s.store.CreateChallenge(s.t.Context(), ctf.Challenge{Key: key, Scenario: ctf.Scenario{Digest: "one"}}))
	for range count - 1 {
		_, err := s.store.UpdateChallenge(s.t.Context(), key, ctf.ChallengeChange{})
		check(s.t, err)
	}
	first, _, err := s.store.Pending(s.t.Context(), key, "")
	check(s.t, err)
	incarnation := first[0].ID[:len(first[0].ID)-len("/1")]
	var ids []string
	for n := range count {
		ids = append(ids, fmt.Sprintf("%s/%d", incarnation, n+1))
	}
	return key, ids
}

func (s *site) left(key ctf.ChallengeKey) int {
	s.t.Helper()
	count, after := 0, ""
	for {
		pending, last, err := s.store.Pending(s.t.Context(), key, after)
		check(s.t, err)
		if after = last; len(pending) == 0 {
			return count
		}
		count += len(pending)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	all, some := newReceiver(t, nil), newReceiver(t, nil)
	s := newSite(t, events.Sink{URL: all.URL}, events.Sink{URL: some.URL, Types: []ctf.EventType{ctf.ChallengeCreated}})
	key, ids := s.make("a/b “c”", 250) // more than an outbox shows at a time
	s.Announce(key)
	eventually(t, "the outbox is empty", func() bool { return s.left(key) == 0 })
	if d := cmp.Diff(ids, all.ids()); d != "" {
		t.Errorf("one who wants all got others: %s", d)
	}
	if d := cmp.Diff(ids[:1], some.ids()); d != "" {
		t.Errorf("one who wants some got others: %s", d)
	}
}

func TestNoSinks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, _ := s.make("c", 150)
	s.Announce(key)
	eventually(t, "the outbox is empty", func() bool { return s.left(key) == 0 })
}

// A sink that refuses gets the event again, and the next ones after it.
func TestRetry(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	refusals := 2
	sink := newReceiver(t, func(string) int {
		mu.Lock()
		defer mu.Unlock()
		if refusals > 0 {
			refusals--
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	s := newSite(t, events.Sink{URL: sink.URL})
	key, ids := s.make("c", 3)
	s.Announce(key)
	eventually(t, "the outbox is empty", func() bool { return s.left(key) == 0 })
	if d := cmp.Diff([]string{ids[0], ids[0], ids[0], ids[1], ids[2]}, sink.ids()); d != "" {
		t.Error(d)
	}
}

func TestBadEventIsSkipped(t *testing.T) {
	t.Parallel()
	sink := newReceiver(t, always(http.StatusBadRequest))
	s := newSite(t, events.Sink{URL: sink.URL})
	key, ids := s.make("c", 3)
	s.Announce(key)
	eventually(t, "the outbox is empty", func() bool { return s.left(key) == 0 })
	if d := cmp.Diff(ids, sink.ids()); d != "" {
		t.Error(d)
	}
}

// One sink is away: the other gets every event, each once, and the first gets
// all of them when it is back.
func TestOneSinkDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	broken, sound := newReceiver(t, always(http.StatusInternalServerError)), newReceiver(t, nil)
	s := newSite(t, events.Sink{URL: broken.URL}, events.Sink{URL: sound.URL})
	key, ids := s.make("c", 230) // more than an outbox shows at a time
	s.Announce(key)
	eventually(t, "the sound sink has all", func() bool { return len(sound.ids()) == len(ids) })
	eventually(t, "the broken sink was tried twice", func() bool { return len(broken.ids()) >= 2 })
	_, err := s.store.UpdateChallenge(t.Context(), key, ctf.ChallengeChange{})
	check(t, err)
	s.Announce(key)
	ids = append(ids, ids[0][:len(ids[0])-1]+"231")
	eventually(t, "the sound sink has the newest", func() bool { return len(sound.ids()) == len(ids) })
	if n := s.left(key); n != len(ids) {
		t.Errorf("%d events are left of %d: none may leave before all took it", n, len(ids))
	}
	broken.become(nil)
	eventually(t, "the outbox is empty", func() bool { return s.left(key) == 0 })
	if d := cmp.Diff(ids, sound.ids()); d != "" {
		t.Errorf("the sound sink: %s", d)
	}
	got := broken.ids()
	if d := cmp.Diff(ids, got[len(got)-len(ids):]); d != "" {
		t.Errorf("the broken sink: %s", d)
	}
}

// Many challenges whose events a sink sits on keep no other sink waiting.
func TestSlowSinkDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := newReceiver(t, func(string) int { <-release; return http.StatusNoContent })
	sound := newReceiver(t, nil)
	s := newSite(t, events.Sink{URL: slow.URL}, events.Sink{URL: sound.URL})
	const many = 30
	for n := range many {
		key, _ := s.make(ctf.ChallengeID(fmt.Sprint(n)), 1)
		s.Announce(key)
	}
	eventually(t, "the sound sink has all", func() bool { return len(sound.ids()) == many })
	close(release)
	eventually(t, "the slow sink has all", func() bool { return len(slow.ids()) == many })
}

// What is announced while its outbox is being emptied is published too.
func TestAnnounceAtAnyTime(t *testing.T) {
	t.Parallel()
	sink := newReceiver(t, nil)
	s := newSite(t, events.Sink{URL: sink.URL})
	key, _ := s.make("c", 1)
	s.Announce(key)
	for range 50 {
		_, err := s.store.UpdateChallenge(t.Context(), key, ctf.ChallengeChange{})
		check(t, err)
		s.Announce(key)
	}
	eventually(t, "all were sent", func() bool { return len(sink.ids()) == 51 && s.left(key) == 0 })
}

func TestCloseDrains(t *testing.T) {
	t.Parallel()
	sink := newReceiver(t, nil)
	s := newSite(t, events.Sink{URL: sink.URL})
	key, ids := s.make("c", 120)
	s.Announce(key)
	check(t, s.Close(t.Context()))
	s.closed = true
	if d := cmp.Diff(ids, sink.ids()); d != "" {
		t.Error(d)
	}
}

// A sink that refuses, or that does not answer, does not keep Close.
func TestCloseGivesUp(t *testing.T) {
	t.Parallel()
	gone, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	for name, answer := range map[string]func(string) int{
		"refuses": always(http.StatusServiceUnavailable),
		"silent":  func(string) int { gone <- struct{}{}; <-release; return http.StatusNoContent },
	} {
		sink := newReceiver(t, answer)
		s := newSite(t, events.Sink{URL: sink.URL})
		key, _ := s.make("c", 2)
		s.Announce(key)
		ctx, cancel := context.WithCancel(t.Context())
		if name == "silent" {
			<-gone
			cancel()
		}
		if err := s.Close(ctx); (err != nil) != (name == "silent") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		s.closed = true
		if n := s.left(key); n != 2 {
			t.Errorf("%s: %d are left, want 2", name, n)
		}
	}
}
