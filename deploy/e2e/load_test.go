//go:build cluster

package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// A whole life is started every lifeEvery, and what changes nothing is asked
	// every askEvery, in each protocol.
	lifeEvery = 3 * time.Second
	askEvery  = 200 * time.Millisecond
	// slowest is how long a call may take.
	slowest = 2 * time.Minute
)

// everyVerb are all verbs, in an order in which they work.
func everyVerb() []string {
	return []string{
		"create-challenge", "retrieve-challenge", "query-challenge", "create-instance", "retrieve-instance",
		"query-instance", "renew-instance", "update-challenge", "delete-instance", "delete-challenge",
	}
}

// A call is made by who waits for its end.
type call = func(context.Context) error

// An order is one call of a verb.
type order struct {
	verb string
	do   call
}

// A load calls all verbs all the time.
type load struct {
	stop      chan struct{}
	workers   sync.WaitGroup
	mu        sync.Mutex
	steady    []order // that end what was used all the time
	since     time.Time
	meanwhile map[string]int // calls that began after since and have ended
	calls     map[string]int
	slowest   map[string]time.Duration
	failed    []string
}

// startLoad uses the whole API through the gateway, over REST and gRPC, with
// challenges of its own, whose names begin so.
func startLoad(t *testing.T, i *installation, prefix, scenario string, how func(call) call) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), meanwhile: map[string]int{}, calls: map[string]int{}, slowest: map[string]time.Duration{}}
	challenges, instances := i.clients(t, "gateway")
	for name, verbs := range map[string]func(challenge, source string) map[string]call{
		"rest": (&restUser{client: i.plain, base: i.url("gateway"), scenario: scenario}).verbs,
		"grpc": (&grpcUser{challenges, instances, scenario}).verbs,
	} {
		orders := func(verbs map[string]call, names ...string) []order {
			var all []order
			for _, verb := range names {
				all = append(all, order{name + " " + verb, how(verbs[verb])})
			}
			return all
		}
		l.repeat(t.Context(), lifeEvery, func(n int) []order {
			return orders(verbs(fmt.Sprintf("%s-%s-life-%d", prefix, name, n), "1"), everyVerb()...)
		})
		steady := verbs(prefix+"-"+name+"-steady", prefix)
		for _, first := range orders(steady, "create-challenge", "create-instance") {
			check(t, first.do(t.Context()))
		}
		l.steady = append(l.steady, orders(steady, "delete-instance", "delete-challenge")...)
		l.repeat(t.Context(), askEvery, func(int) []order {
			return orders(steady, "retrieve-challenge", "query-challenge", "retrieve-instance", "query-instance", "renew-instance")
		})
	}
	return l
}

// asItIs makes a call once.
func asItIs(do call) call { return do }

// repeat gives one order after the other, round by round, until the load ends.
// A round that has begun is ended.
func (l *load) repeat(ctx context.Context, every time.Duration, round func(n int) []order) {
	l.workers.Go(func() {
		pace := time.NewTicker(every)
		defer pace.Stop()
		for n := 0; ; n++ {
			for _, o := range round(n) {
				began := time.Now()
				l.note(o.verb, began, o.do(ctx))
			}
			select {
			case <-l.stop:
				return
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
	})
}

func (l *load) note(verb string, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[verb]++
	if began.After(l.since) {
		l.meanwhile[verb]++
	}
	l.slowest[verb] = max(l.slowest[verb], time.Since(began))
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s %s after %v: %v", began.UTC().Format("15:04:05.000"), verb, time.Since(began).Round(time.Millisecond), err))
	}
}

// during does something, while which every verb has to be called, from the call's
// beginning to its end.
func (l *load) during(t *testing.T, do func()) {
	t.Helper()
	l.mu.Lock()
	l.since = time.Now()
	clear(l.meanwhile)
	l.mu.Unlock()
	do()
	l.mu.Lock()
	defer l.mu.Unlock()
	took := time.Since(l.since).Round(time.Second)
	for _, protocol := range []string{"rest", "grpc"} {
		for _, verb := range everyVerb() {
			if l.meanwhile[protocol+" "+verb] == 0 {
				t.Errorf("in %v there was no call of %s over %s", took, verb, protocol)
			}
		}
	}
	t.Logf("in %v: %v", took, l.meanwhile)
}

// end waits for what is on its way; no call may have failed, or taken too long.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.workers.Wait()
	for _, last := range l.steady {
		check(t, last.do(t.Context()))
	}
	for verb, n := range l.calls {
		took := l.slowest[verb].Round(time.Millisecond)
		t.Logf("%s: %d calls, the slowest took %v", verb, n, took)
		if took > slowest {
			t.Errorf("a call of %s took %v", verb, took)
		}
	}
	slices.Sort(l.failed)
	for _, failure := range l.failed {
		t.Error(failure)
	}
}
