package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const (
	// short is how long a call gets here, and round a round of reconcile, which
	// has all records to read first.
	short, round = 300 * time.Millisecond, time.Second
	// many are more instances than one of them is enough for.
	many = 60
	// within is how long a test waits for what must happen.
	within = 2 * time.Minute
)

// A machine is an engine whose operations take a while, a few at once.
type machine struct {
	slots   chan struct{}
	takes   time.Duration // 0 is until release is closed
	release chan struct{}
	begun   atomic.Int64
	downs   atomic.Int64 // of these, the destructions
}

func (m *machine) Preview(context.Context, ctf.Program) error { return nil }

func (m *machine) Up(ctx context.Context, p ctf.Program, _ ctf.Checkpoint, _ ctf.Journal) (ctf.Result, error) {
	return ctf.Result{ConnectionInfo: p.Scenario.Digest, Base: []byte{1}}, m.work(ctx)
}

func (m *machine) Down(ctx context.Context, _ ctf.InstanceKey, _ ctf.Checkpoint, _ ctf.Journal) error {
	m.downs.Add(1)
	return m.work(ctx)
}

func (m *machine) Resources(context.Context, ctf.Checkpoint) ([]ctf.Resource, error) {
	return []ctf.Resource{{Type: "machine:index:Entry", ID: "1"}}, nil
}

func (m *machine) work(ctx context.Context) error {
	m.begun.Add(1)
	m.slots <- struct{}{}
	defer func() { <-m.slots }()
	var done <-chan time.Time
	if m.takes > 0 {
		done = time.After(m.takes)
	}
	select {
	case <-done:
		return nil
	case <-m.release:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A full pool needs nothing.
type full struct{}

func (full) Handle(context.Context, ctf.Event) error { return nil }

// A site is a reconcile with short rounds over a real store, woken by the events
// of a real publisher, and by nothing else.
type site struct {
	*Function
	t       *testing.T
	url     string
	store   *redis.Store
	machine *machine
	key     ctf.ChallengeKey
	ids     []ctf.Identity
	rounds  atomic.Int64
}

// newSite has a challenge with many instances, of which none is deployed.
func newSite(t *testing.T, takes time.Duration) *site {
	t.Helper()
	s := &site{
		t: t, url: redistest.Start(t), machine: &machine{slots: make(chan struct{}, 4), takes: takes, release: make(chan struct{})},
		key: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "challenge"},
	}
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	s.store, err = redis.Open(t.Context(), redis.Options{URL: s.url, Keys: keys})
	check(t, err)
	sink := httptest.NewServer(http.HandlerFunc(s.receive))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	publisher, err := events.NewPublisher(s.store, []events.Sink{{URL: sink.URL, Types: Types()}}, log)
	check(t, err)
	life := lifecycle.New(s.store, s.machine, publisher, lifecycle.Bounds{}, within)
	s.Function = New(s.store, life, full{}, publisher, Inventory{}, log)
	s.budget = round
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*within)
		defer cancel()
		close(s.machine.release)
		sink.Close() // nothing begins any more
		check(t, errors.Join(life.Drain(ctx), publisher.Close(ctx), s.store.Close()))
	})
	check(t, s.store.CreateChallenge(t.Context(), ctf.Challenge{Key: s.key, Scenario: ctf.Scenario{Digest: "one"}}))
	for n := range many {
		r, err := s.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: s.key, Source: ctf.SourceID(fmt.Sprint(n))})
		check(t, err)
		s.ids = append(s.ids, r.Instance.Key.Identity)
	}
	s.store.Shift(time.Minute) // whoever reserved them has had his moment
	return s
}

func (s *site) receive(w http.ResponseWriter, r *http.Request) {
	s.rounds.Add(1)
	ce, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	event, err := events.Decode(*ce)
	if err == nil {
		err = s.GoOn(r.Context(), event)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// outOfTime is a call whose time is over long before its work.
func (s *site) outOfTime(ids []ctf.Identity) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), short)
	defer cancel()
	if err := s.lifecycle.SettleAll(ctx, s.key, ids); !errors.Is(err, context.DeadlineExceeded) {
		s.t.Fatalf("the call ended with %v", err)
	}
}

// eventually waits until the condition holds.
func (s *site) eventually(what string, condition func() bool) {
	s.t.Helper()
	late := time.After(within)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			s.t.Fatalf("in vain: %s", what)
		}
	}
}

// handedOn is how often work was handed on that nobody has taken yet.
func (s *site) handedOn() (times int) {
	s.t.Helper()
	pending, _, err := s.store.Pending(s.t.Context(), s.key, "")
	check(s.t, err)
	for _, e := range pending {
		if e.Type == ctf.ChallengeUnsettled {
			times++
		}
	}
	return times
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a call had no time for is done by events alone, round after round, and
// then no event comes any more.
func TestGoOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 200*time.Millisecond)
	settled := func() bool {
		all, _, err := s.unsettled(t.Context(), s.key)
		check(t, err)
		return all == 0
	}
	quiet := func() bool { return s.handedOn() == 0 }

	s.outOfTime(s.ids) // as creates that are all interrupted
	s.eventually("they are deployed", settled)
	s.eventually("it is quiet", quiet)

	update, err := s.store.UpdateChallenge(t.Context(), s.key, ctf.ChallengeChange{
		SetScenario: true, Scenario: ctf.Scenario{Digest: "two"}, Strategy: ctf.InPlace,
	})
	check(t, err)
	s.store.Shift(time.Minute)
	before := s.rounds.Load()
	s.outOfTime(update.Updating)
	s.eventually("they are updated", settled)
	s.eventually("it is quiet", quiet)
	for i, err := range s.store.Claimed(t.Context(), s.key) {
		check(t, err)
		if i.ConnectionInfo != "two" {
			t.Errorf("%s has %q", i.Key.Identity, i.ConnectionInfo)
		}
	}
	if rounds := s.rounds.Load() - before; rounds < 2 {
		t.Errorf("%d rounds were enough; the test shows nothing", rounds)
	}

	_, ids, err := s.store.DeleteChallenge(t.Context(), s.key)
	check(t, err)
	s.store.Shift(time.Minute)
	s.outOfTime(ids)
	s.eventually("it is removed", func() bool {
		_, err := s.store.Challenge(t.Context(), s.key)
		return ctf.ReasonOf(err) == ctf.ReasonChallengeNotFound
	})
	s.eventually("it is quiet", quiet)
}

// Without progress an event is asked for again, and no other one is sent, until
// it is old.
func TestGoOnWithoutProgress(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	now, err := s.store.Now(t.Context()) // a minute ahead of ours
	check(t, err)
	event := ctf.Event{Type: ctf.ChallengeUnsettled, Challenge: s.key, At: now}
	if err := s.GoOn(t.Context(), event); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
		t.Errorf("it answers %v, want to be asked again", err)
	}
	if n := s.machine.begun.Load(); n == 0 || n > instancesAtOnce {
		t.Errorf("%d were begun, want up to %d", n, instancesAtOnce)
	}
	s.store.Shift(2 * hopeless) // no clock but the store's
	check(t, s.GoOn(t.Context(), event))
	if n := s.machine.begun.Load(); n <= instancesAtOnce {
		t.Error("the second round began nothing: it waited for what the first one is at")
	}
	if n := s.handedOn(); n > 0 {
		t.Errorf("work was handed on %d times", n)
	}
	event.Challenge.ID = "unknown"
	check(t, s.GoOn(t.Context(), event))
}

// A tick hands on what it does not come to, each challenge once.
func TestTickHandsOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	check(t, s.Handle(t.Context()))
	s.eventually("somebody goes on", func() bool { return s.rounds.Load() > 0 })
}
