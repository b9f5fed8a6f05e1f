package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// errMistake is what a broken scenario gets.
var errMistake = ctf.DeploymentFailed("the author's mistake", nil)

// errDied is what an operation gets whose worker died.
var errDied = &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable, Message: "The engine's worker died."}

// A machine is an engine that deploys an instance as an entry in a map. Up and
// Down first change the map and the journal and then call the hooks, which may
// block, fail, or have something else happen meanwhile.
type machine struct {
	t  testing.TB
	up func(ctx context.Context, p ctf.Program) error
	// down is called before anything is destroyed.
	down func(ctx context.Context, id ctf.Identity) error

	mu         sync.Mutex
	running    map[ctf.Identity]string // the digest that is deployed
	ups, downs int
}

func (m *machine) Preview(context.Context, ctf.Program) error { return nil }

func (m *machine) Up(ctx context.Context, p ctf.Program, _ ctf.Checkpoint, j ctf.Journal) (ctf.Result, error) {
	m.mu.Lock()
	m.ups++
	up := m.up
	m.mu.Unlock()
	if err := j.Append(ctx, []byte("begin "+p.Scenario.Digest)); err != nil {
		return ctf.Result{}, err
	}
	m.mu.Lock()
	m.running[p.Instance.Identity] = p.Scenario.Digest
	m.mu.Unlock()
	if up != nil {
		if err := up(ctx, p); err != nil {
			return ctf.Result{}, err
		}
	}
	if ctx.Err() != nil {
		return ctf.Result{}, context.Cause(ctx)
	}
	return ctf.Result{ConnectionInfo: p.Scenario.Digest, Base: []byte(p.Scenario.Digest)}, nil
}

func (m *machine) Down(ctx context.Context, key ctf.InstanceKey, c ctf.Checkpoint, j ctf.Journal) error {
	m.mu.Lock()
	m.downs++
	down := m.down
	if _, ok := m.running[key.Identity]; ok && c.Base == nil && len(c.Journal) == 0 {
		m.t.Errorf("the checkpoint of %s does not know what is deployed", key.Identity)
	}
	m.mu.Unlock()
	if down != nil {
		if err := down(ctx, key.Identity); err != nil {
			return err
		}
	}
	if err := j.Append(ctx, []byte("destroy")); err != nil {
		return err
	}
	m.forget(key.Identity)
	return nil
}

// forget destroys an instance.
func (m *machine) forget(id ctf.Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, id)
}

func (m *machine) Resources(_ context.Context, c ctf.Checkpoint) ([]ctf.Resource, error) {
	if c.Base == nil && len(c.Journal) == 0 {
		return nil, nil
	}
	return []ctf.Resource{{Type: "machine:index:Entry", ID: "1"}}, nil
}

// script sets the hooks.
func (m *machine) script(up func(context.Context, ctf.Program) error, down func(context.Context, ctf.Identity) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up, m.down = up, down
}

func (m *machine) deployed() map[ctf.Identity]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.running)
}

func (m *machine) counts() (ups, downs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ups, m.downs
}

func failUp(err error) func(context.Context, ctf.Program) error {
	return func(context.Context, ctf.Program) error { return err }
}

func failDown(err error) func(context.Context, ctf.Identity) error {
	return func(context.Context, ctf.Identity) error { return err }
}

// A gate is a hook that tells when it was reached and waits to be opened, or
// for the operation to be stopped.
type gate struct {
	reached, open chan struct{}
	once          sync.Once
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) wait(ctx context.Context) error {
	g.once.Do(func() { close(g.reached) })
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) up(ctx context.Context, _ ctf.Program) error    { return g.wait(ctx) }
func (g *gate) down(ctx context.Context, _ ctf.Identity) error { return g.wait(ctx) }

type announcer struct{ calls atomic.Int64 }

func (a *announcer) Announce(ctf.ChallengeKey) { a.calls.Add(1) }

// A site is a lifecycle over a real store and a machine, with one challenge.
type site struct {
	*lifecycle.Lifecycle
	t         testing.TB
	url       string
	keys      *redis.Keyring
	store     *redis.Store
	machine   *machine
	announced *announcer
	challenge ctf.ChallengeKey
}

func newSite(t testing.TB, limit time.Duration) *site {
	t.Helper()
	return newSiteOn(t, redistest.Start(t), lifecycle.Bounds{}, limit)
}

func newSiteOn(t testing.TB, url string, b lifecycle.Bounds, limit time.Duration) *site {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	s := &site{
		t: t, url: url, keys: keys, announced: &announcer{},
		machine:   &machine{t: t, running: map[ctf.Identity]string{}},
		challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "challenge"},
	}
	s.store = s.open()
	s.Lifecycle = lifecycle.New(s.store, s.machine, s.announced, b, limit)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check(t, s.Drain(ctx))
	})
	check(t, s.store.CreateChallenge(t.Context(), ctf.Challenge{Key: s.challenge, Scenario: ctf.Scenario{Digest: "one"}}))
	return s
}

// open returns another store on the same Redis, as another process has one.
func (s *site) open() *redis.Store {
	s.t.Helper()
	store, err := redis.Open(s.t.Context(), redis.Options{URL: s.url, Keys: s.keys, LeaseTTL: 2 * time.Second})
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, store.Close()) })
	return store
}

func (s *site) reserve() ctf.InstanceKey {
	s.t.Helper()
	r, err := s.store.Reserve(s.t.Context(), ctf.ReserveRequest{Challenge: s.challenge, Source: "team"})
	check(s.t, err)
	return r.Instance.Key
}

// reserveMany reserves an instance each for many sources.
func (s *site) reserveMany(count int) (ids []ctf.Identity) {
	s.t.Helper()
	for n := range count {
		r, err := s.store.Reserve(s.t.Context(), ctf.ReserveRequest{Challenge: s.challenge, Source: ctf.SourceID(fmt.Sprint(n))})
		check(s.t, err)
		ids = append(ids, r.Instance.Key.Identity)
	}
	return ids
}

// handedOn is how often work was handed on, as far as the outbox shows.
func (s *site) handedOn() (times int) {
	s.t.Helper()
	pending, _, err := s.store.Pending(s.t.Context(), s.challenge, "")
	check(s.t, err)
	for _, e := range pending {
		if e.Type == ctf.ChallengeUnsettled {
			times++
		}
	}
	return times
}

// started is an instance that team has, of the scenario "one".
func (s *site) started() ctf.InstanceKey {
	s.t.Helper()
	key := s.reserve()
	if outcome, err := s.Settle(s.t.Context(), key); err != nil || outcome.Instance.State != ctf.Ready {
		s.t.Fatalf("settle a pending instance: %+v %v", outcome, err)
	}
	return key
}

// update moves the challenge on to another scenario.
func (s *site) update(digest string, strategy ctf.Strategy) {
	s.t.Helper()
	_, err := s.store.UpdateChallenge(s.t.Context(), s.challenge, ctf.ChallengeChange{
		SetScenario: true, Scenario: ctf.Scenario{Digest: digest}, Strategy: strategy,
	})
	check(s.t, err)
}

func (s *site) delete() {
	s.t.Helper()
	_, _, err := s.store.DeleteInstance(s.t.Context(), s.challenge, "team")
	check(s.t, err)
}

// records returns every record of the challenge.
func (s *site) records() map[ctf.Identity]ctf.Instance {
	s.t.Helper()
	entries, err := ctf.Collect(s.store.All(s.t.Context(), s.challenge))
	check(s.t, err)
	found := map[ctf.Identity]ctf.Instance{}
	for _, e := range entries {
		found[e.Instance.Key.Identity] = e.Instance
	}
	return found
}

// held returns what team sees.
func (s *site) held() (ctf.Instance, error) {
	return s.store.Instance(s.t.Context(), s.challenge, "team")
}

// wantNothing checks that neither a record nor a deployment is left.
func (s *site) wantNothing() {
	s.t.Helper()
	if left := s.records(); len(left) > 0 {
		s.t.Errorf("records are left: %v", left)
	}
	if left := s.machine.deployed(); len(left) > 0 {
		s.t.Errorf("deployments are left: %v", left)
	}
}

// wantOnly checks that team sees one ready instance of this digest and that
// nothing else is recorded or deployed.
func (s *site) wantOnly(digest string) ctf.Instance {
	s.t.Helper()
	i, err := s.held()
	check(s.t, err)
	running := s.machine.deployed()
	if i.State != ctf.Ready || i.ConnectionInfo != digest || running[i.Key.Identity] != digest {
		s.t.Errorf("%s is %s with %q and runs %q, want %q", i.Key.Identity, i.State, i.ConnectionInfo, running[i.Key.Identity], digest)
	}
	if records := s.records(); len(records) != 1 || len(running) != 1 {
		s.t.Errorf("recorded are %v, deployed %v, want one", records, running)
	}
	return i
}

// settling settles in the background.
func (s *site) settling(ctx context.Context, key ctf.InstanceKey) <-chan settled {
	done := make(chan settled, 1)
	go func() {
		outcome, err := s.Settle(ctx, key)
		done <- settled{outcome, err}
	}()
	return done
}

type settled struct {
	lifecycle.Outcome
	err error
}

// steal takes an instance's lease from whoever holds it, as if that one had
// been silent for long.
func (s *site) steal(key ctf.InstanceKey) ctf.Lease {
	s.t.Helper()
	options, err := goredis.ParseURL(s.url)
	check(s.t, err)
	raw := goredis.NewClient(options)
	defer func() { check(s.t, raw.Close()) }()
	found, err := raw.Keys(s.t.Context(), "*l:"+string(key.Identity)).Result()
	check(s.t, err)
	if len(found) != 1 {
		s.t.Fatalf("leases of %s: %v", key.Identity, found)
	}
	thief := s.open()
	for {
		check(s.t, raw.Del(s.t.Context(), found[0]).Err())
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		lease, err := thief.Lease(ctx, key)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			continue // its holder, who refreshes it all the time, was faster
		}
		check(s.t, err)
		return lease
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantReason(t testing.TB, err error, reason ctf.Reason) {
	t.Helper()
	if got := ctf.ReasonOf(err); got != reason {
		t.Fatalf("got error %v, want reason %q", err, reason)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func within[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
