package system

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A halting machine is an engine that makes nothing, and once it deploys or
// destroys tells so and stands still until it is released.
type halting struct {
	up, down         bool // where it halts
	reached, release chan struct{}
	once             sync.Once
}

func (m *halting) Preview(context.Context, ctf.Program) error { return nil }

func (m *halting) Up(ctx context.Context, _ ctf.Program, _ ctf.Checkpoint, _ ctf.Journal) (ctf.Result, error) {
	return ctf.Result{Base: []byte{1}}, m.halt(ctx, m.up)
}

func (m *halting) Down(ctx context.Context, _ ctf.InstanceKey, _ ctf.Checkpoint, _ ctf.Journal) error {
	return m.halt(ctx, m.down)
}

func (m *halting) Resources(context.Context, ctf.Checkpoint) ([]ctf.Resource, error) { return nil, nil }

func (m *halting) halt(ctx context.Context, here bool) error {
	if !here {
		return nil
	}
	m.once.Do(func() { close(m.reached) })
	select {
	case <-m.release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A mailbox takes events, and keeps those of work that is handed on.
type mailbox struct {
	url string

	mu       sync.Mutex
	handedOn []cloudevents.Event
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	b := &mailbox{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ce, err := cehttp.NewEventFromHTTPRequest(r)
		if err != nil {
			t.Errorf("an event: %v", err)
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if e, err := events.Decode(*ce); err == nil && e.Type == ctf.ChallengeUnsettled {
			b.handedOn = append(b.handedOn, *ce)
		}
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *mailbox) all() []cloudevents.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handedOn
}

// A halfway is something that a function is told to stop in the middle of, of the
// challenge "1", of which there is nothing before but what was prepared.
type halfway struct {
	challenge ctf.Challenge
	// prepare records what there is, besides an instance that team has.
	prepare func(t *testing.T, store *redis.Store)
	alone   bool // without that instance
	down    bool // it is halfway when it destroys, else when it deploys
	request func(t *testing.T, url string) *http.Request
	// instances are there in the end, of this generation, or there is not even the
	// challenge.
	instances  int
	generation int64
	gone       bool
}

var theChallenge = ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "1"}

func halfways() map[string]halfway {
	brief := 50 * time.Millisecond
	all := map[string]halfway{
		"delete":             {down: true, request: asking(http.MethodDelete, "/instance/1/team", "")},
		"delete a challenge": {down: true, request: asking(http.MethodDelete, "/challenge/1", ""), gone: true},
		"expire":             {challenge: ctf.Challenge{Timeout: &brief}, prepare: ended, down: true, request: telling(ExpirePath, tick())},
		"fill a pool": {
			challenge: ctf.Challenge{Pool: ctf.Pool{Min: 2}}, alone: true, instances: 2, generation: 1,
			request: telling(FillPoolPath, short()),
		},
		"reconcile, which deploys": {
			alone: true, instances: 1, generation: 1, request: telling(ReconcilePath, tick()),
			prepare: func(t *testing.T, store *redis.Store) {
				_, err := store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: theChallenge, Source: "other"})
				check(t, err)
			},
		},
		"reconcile, which destroys": {
			down: true, request: telling(ReconcilePath, tick()),
			prepare: func(t *testing.T, store *redis.Store) {
				_, _, err := store.DeleteInstance(t.Context(), theChallenge, "team")
				check(t, err)
			},
		},
	}
	for _, strategy := range []string{"update_in_place", "blue_green", "recreate"} {
		all["update, "+strategy] = halfway{
			instances: 1, generation: 2,
			request: asking(http.MethodPatch, "/challenge/1",
				`{"additional": {"round": "2"}, "updateMask": "additional", "updateStrategy": "`+strategy+`"}`),
		}
	}
	return all
}

func asking(method, path, body string) func(*testing.T, string) *http.Request {
	return func(t *testing.T, url string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), method, url+"/api/v1"+path, strings.NewReader(body))
		check(t, err)
		return r
	}
}

func telling(path string, ce cloudevents.Event) func(*testing.T, string) *http.Request {
	return func(t *testing.T, url string) *http.Request {
		r, err := cehttp.NewHTTPRequestFromEvent(t.Context(), url+path, ce)
		check(t, err)
		return r
	}
}

func tick() cloudevents.Event {
	ce := cloudevents.NewEvent()
	ce.SetID("1")
	ce.SetSource("/test")
	ce.SetType(events.TickType)
	return ce
}

// short tells that the pool is.
func short() cloudevents.Event {
	ce, _ := events.Encode(ctf.Event{ID: "1", Type: ctf.ChallengeUpdated, Challenge: theChallenge, At: time.Now()}) // ids can be encoded
	return ce
}

// ended waits until what team has is over.
func ended(t *testing.T, store *redis.Store) {
	t.Helper()
	eventually(t, "it ends", func() bool {
		_, err := store.Instance(t.Context(), theChallenge, "team")
		return ctf.ReasonOf(err) == ctf.ReasonInstanceNotFound
	})
}

type unheard struct{}

func (unheard) Announce(ctf.ChallengeKey) {}

// begin has a function begin, and be halfway.
func (w halfway) begin(t *testing.T, f *Function, m *halting, box *mailbox, url string) (tell func(), stopped <-chan error, answered <-chan *http.Response) {
	t.Helper()
	address, say, stopped := startWith(t, f, wiring{m, box.url}, "redis-url", url)
	store := storeOf(t, f)
	store.Shift(-time.Minute) // whoever wrote it has had his moment
	w.challenge.Key = theChallenge
	check(t, store.CreateChallenge(t.Context(), w.challenge))
	if !w.alone {
		r, err := store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: theChallenge, Source: "team"})
		check(t, err)
		life := lifecycle.New(store, &halting{}, unheard{}, lifecycle.Bounds{}, time.Minute)
		_, err = life.Settle(t.Context(), r.Instance.Key)
		check(t, err)
	}
	if w.prepare != nil {
		w.prepare(t, store)
	}
	answers := make(chan *http.Response, 1)
	request := w.request(t, address)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		answers <- response
	}()
	select {
	case <-m.reached:
	case <-time.After(time.Minute):
		t.Fatal("the engine has nothing to do")
	}
	return func() {
		say()
		eventually(t, "it takes no more calls", func() bool {
			connection, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
			if err == nil {
				_ = connection.Close()
			}
			return err != nil
		})
	}, stopped, answers
}

// wantDone checks that nothing is left to do.
func (w halfway) wantDone(t *testing.T, store *redis.Store) {
	t.Helper()
	if _, err := store.Challenge(t.Context(), theChallenge); w.gone != (ctf.ReasonOf(err) == ctf.ReasonChallengeNotFound) {
		t.Errorf("the challenge: %v", err)
	}
	entries, err := ctf.Collect(store.All(t.Context(), theChallenge))
	check(t, err)
	for _, e := range entries {
		if e.Leased || e.Instance.State != ctf.Ready || e.Instance.Generation != w.generation {
			t.Errorf("%+v, want it ready, of generation %d, and held by nobody", e, w.generation)
		}
	}
	if len(entries) != w.instances {
		t.Errorf("%d instances are there, want %d", len(entries), w.instances)
	}
}

// A function that is told to stop in the middle of something ends it in its time.
func TestStopEndsWhatItIsAt(t *testing.T) {
	for name, work := range halfways() {
		t.Run(name, func(t *testing.T) {
			m := &halting{up: !work.down, down: work.down, reached: make(chan struct{}), release: make(chan struct{})}
			box, f := newMailbox(t), &Function{}
			tell, stopped, answered := work.begin(t, f, m, box, redistest.Start(t))
			tell()
			close(m.release)
			if r := <-answered; r == nil || r.StatusCode/100 != 2 {
				t.Errorf("it was answered with %v", r)
			}
			check(t, <-stopped)
			work.wantDone(t, storeOf(t, f))
			if n := len(box.all()); n > 0 {
				t.Errorf("work was handed on %d times", n)
			}
		})
	}
}

// Once its time is over, what it is at is on record and held by nobody, and any of
// the events that tell of it has another function end it.
func TestStopLeavesWhatItIsAt(t *testing.T) {
	for name, work := range halfways() {
		t.Run(name, func(t *testing.T) {
			m := &halting{up: !work.down, down: work.down, reached: make(chan struct{}), release: make(chan struct{})}
			box, f := newMailbox(t), &Function{drainFor: 200 * time.Millisecond, stopFor: 400 * time.Millisecond}
			url := redistest.Start(t)
			tell, stopped, answered := work.begin(t, f, m, box, url)
			began := time.Now()
			tell()
			if err := <-stopped; err == nil || !strings.Contains(err.Error(), "calls did not end within") {
				t.Errorf("it stopped with %v", err)
			}
			if took, most := time.Since(began), f.stopFor+parts*closeLimit; took > most {
				t.Errorf("it took %v, want %v at most", took, most)
			}
			if r := <-answered; r != nil {
				t.Errorf("it was answered with %s", r.Status)
			}
			store := storeOf(t, f)
			entries, err := ctf.Collect(store.All(t.Context(), theChallenge))
			check(t, err)
			unsettled := 0
			for _, e := range entries {
				if e.Leased {
					t.Errorf("%s, %s, is held", e.Instance.Key.Identity, e.Instance.State)
				}
				if e.Instance.State != ctf.Ready {
					unsettled++
				}
			}
			if unsettled == 0 {
				t.Errorf("nothing is left of it on record: %+v", entries)
			}
			told := box.all()
			if len(told) == 0 {
				t.Fatal("no event tells of it")
			}
			next := &Function{}
			address, end, over := startWith(t, next, wiring{&halting{}, box.url}, "redis-url", url)
			deliver(t, address, told[0])
			work.wantDone(t, store)
			end()
			check(t, <-over)
		})
	}
}

// deliver gives a function an event until it takes it, as a broker does.
func deliver(t *testing.T, address string, ce cloudevents.Event) {
	t.Helper()
	eventually(t, "the event is taken", func() bool {
		response, err := http.DefaultClient.Do(telling(ReconcilePath, ce)(t, address))
		check(t, err)
		check(t, response.Body.Close())
		return response.StatusCode/100 == 2
	})
}

// storeOf opens what a function stands on.
func storeOf(t *testing.T, f *Function) *redis.Store {
	t.Helper()
	options, err := f.Redis()
	check(t, err)
	store, err := redis.Open(t.Context(), options)
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	return store
}
