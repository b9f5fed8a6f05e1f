package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// patience is how long a client waits that does not leave early.
	patience = 2 * time.Minute
	// pause is how long a client waits where nobody listened, and tries how often
	// it makes a call that got no clear answer, waiting twice as long each time.
	pause = 20 * time.Millisecond
	tries = 5
)

// A Load is what clients do.
type Load struct {
	// URLs are addresses of the API, as http://127.0.0.1:8080. Each client has one.
	URLs []string
	// Dial connects to the API, for addresses that mean nothing here; nil takes
	// them as they are.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Between has something stand between clients and Mayfly, as an ingress does,
	// which may answer a call itself: its 5xx says nothing of what was done.
	Between bool
	// Challenges are there, and open, and their instances may be renewed and never
	// end earlier than they were to.
	Challenges []string
	// Clients work at once, Together of them on the same sources.
	Clients, Together int
	// Calls is how many are made in all, and more for as long as More, if it is
	// there, says so.
	Calls int
	More  func() bool
	// Seed makes the same choices again: which call, of which challenge, with which
	// key, and left after how long is each client's own nth choice, whatever it and
	// others were answered before.
	Seed uint64
	// Leave has one call in LeaveOne given up by its client within this time.
	Leave    time.Duration
	LeaveOne int
	// Failing are the reasons with which deployments may fail, because what they
	// need breaks.
	Failing []string
	// Began is when the history did.
	Began time.Time
}

// Drive makes all calls and returns them. It ends early with the context.
func Drive(ctx context.Context, l Load) []Call {
	var made atomic.Int64
	var group sync.WaitGroup
	lanes := make([]*lane, (l.Clients+l.Together-1)/l.Together)
	for n := range lanes {
		lanes[n] = &lane{name: fmt.Sprintf("%d-%d", l.Seed, n)}
	}
	histories := make([][]Call, l.Clients)
	for n := range l.Clients {
		group.Go(func() {
			c := newClient(l, n)
			c.lane = lanes[n/l.Together]
			for ctx.Err() == nil && (made.Add(1) <= int64(l.Calls) || l.More != nil && l.More()) {
				histories[n] = append(histories[n], c.next(ctx)...)
			}
		})
	}
	group.Wait()
	return slices.Concat(histories...)
}

// Break drives the load while strike breaks something, after each pause and at
// least so many times; what it returns mends that, and nil is what mends itself.
// Break returns the calls, and when each mending began. It calls all three itself,
// one after the other, and what the nth strike chooses by is the same whatever has
// happened before.
func Break(
	ctx context.Context, l Load, least int64, pause func(*rand.Rand) time.Duration, strike func(*rand.Rand) (mend func()),
) (calls []Call, mending []time.Duration) {
	var strikes atomic.Int64
	l.More = func() bool { return strikes.Load() < least }
	done := make(chan []Call, 1)
	go func() { done <- Drive(ctx, l) }()
	for {
		random := chance(l.Seed, l.Clients+1, int(strikes.Load()), 0)
		select {
		case calls := <-done:
			return calls, mending
		case <-time.After(pause(random)):
			mend := strike(random)
			mending = append(mending, time.Since(l.Began))
			if mend != nil {
				mend()
			}
			strikes.Add(1)
		}
	}
}

// chance is what the nth choice of somebody is made by, at one of its tries.
func chance(seed uint64, who, nth, try int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(who)<<48|uint64(nth)<<8|uint64(try)))
}

// Ask has every source of these calls look at what it has, when all is quiet, and
// repeat the create that made it if that had a key. It returns the calls it makes.
func Ask(ctx context.Context, l Load, calls []Call) []Call {
	c := newClient(l, l.Clients)
	var asked []Call
	ask := func(verb Verb, about Call, key string) Call {
		told := c.make(ctx, Call{Client: c.number, Challenge: about.Challenge, Source: about.Source, Verb: verb, Key: key}, patience)
		asked = append(asked, told...)
		return told[0]
	}
	type source struct{ challenge, source string }
	seen := map[source]bool{}
	for _, about := range calls {
		key := source{about.Challenge, about.Source}
		if seen[key] {
			continue
		}
		seen[key] = true
		ask(Query, about, "")
		switch there := ask(Retrieve, about, ""); there.Outcome {
		case Done:
			ask(Create, about, "")
			ask(Renew, about, "")
			made := slices.IndexFunc(calls, func(c Call) bool {
				return c.Challenge == about.Challenge && c.Source == about.Source && c.Key != "" && c.Instance == there.Instance
			})
			if made >= 0 {
				ask(Create, about, calls[made].Key)
			}
		case Missing:
			ask(Delete, about, "")
		}
	}
	return asked
}

// A client makes one call after the other.
type client struct {
	load   Load
	number int
	lane   *lane
	http   *http.Client
	// chosen is how many calls it chose, again is one of them that got no clear
	// answer and has a key, and tried how many in a row had no clear answer.
	chosen int
	again  *Call
	tried  int
}

func newClient(l Load, number int) *client {
	return &client{
		load: l, number: number,
		// A transport that keeps connections repeats a call on its own, and says
		// that nobody listens when somebody heard the first one.
		http: &http.Client{Transport: &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}},
	}
}

// next makes a call and returns what it was told.
func (c *client) next(ctx context.Context) []Call {
	call, limit := c.choose()
	told := c.make(ctx, call, limit)
	c.again = nil
	if !slices.ContainsFunc(told, func(c Call) bool { return c.Outcome == Unclear }) {
		c.tried = 0
		return told
	}
	c.lane.note()
	if c.tried++; call.Key != "" && c.tried < tries {
		c.again = &call
	}
	<-time.After(pause << min(c.tried, tries))
	return told
}

// make makes a call, for which it waits until somebody listens, and returns it
// with its outcome: a query as one call for each challenge.
func (c *client) make(ctx context.Context, call Call, limit time.Duration) []Call {
	for {
		call.Began = time.Since(c.load.Began)
		bounded, cancel := context.WithTimeout(ctx, limit)
		told, err := c.do(bounded, call)
		call.Left = limit < patience && bounded.Err() != nil
		cancel()
		call.Ended = time.Since(c.load.Began)
		for n := range told {
			told[n].Ended, told[n].Left = call.Ended, call.Left
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
			return told
		}
		<-time.After(pause) // nobody heard it: it was not made
	}
}

// choose returns the next call, and how long the client waits for its answer.
func (c *client) choose() (call Call, limit time.Duration) {
	try := 0
	if c.again != nil {
		try = c.tried
	} else {
		c.chosen++
	}
	random := chance(c.load.Seed, c.number, c.chosen, try)
	limit = patience
	if c.load.LeaveOne > 0 && random.IntN(c.load.LeaveOne) == 0 {
		limit = time.Duration(random.Int64N(int64(c.load.Leave)))
	}
	if c.again != nil { // as clients do that want to be sure
		call = *c.again
		call.Outcome, call.Answer = "", ""
		return call, limit
	}
	call = Call{Client: c.number, Source: c.lane.current(), Challenge: c.load.Challenges[random.IntN(len(c.load.Challenges))]}
	switch kind := random.IntN(11); {
	case kind < 4:
		call.Verb = Create
		if random.IntN(2) == 0 {
			call.Key = fmt.Sprintf("%d-%d", c.number, c.chosen)
		}
	case kind < 6:
		call.Verb = Retrieve
	case kind < 7:
		call.Verb = Renew
	case kind < 8:
		call.Verb = Query
	default:
		call.Verb = Delete
	}
	return call, limit
}

// do makes the call and returns what it was told. The error is about the connection.
func (c *client) do(ctx context.Context, call Call) ([]Call, error) {
	method, path := http.MethodPost, "/api/v1/instance"
	switch call.Verb {
	case Create:
	case Query:
		method, path = http.MethodGet, path+"?sourceId="+call.Source
	default:
		path += "/" + call.Challenge + "/" + call.Source
		method = map[Verb]string{Retrieve: http.MethodGet, Renew: http.MethodPatch, Delete: http.MethodDelete}[call.Verb]
	}
	status, text, err := c.send(ctx, call, method, path)
	if call.Verb == Query {
		return call.readEach(status, text, err, c.load), err
	}
	if err != nil {
		call.Outcome, call.Answer = Unclear, err.Error()
	} else {
		call.read(status, text, c.load)
	}
	return []Call{call}, err
}

// send returns as much of the answer as came before an error.
func (c *client) send(ctx context.Context, call Call, method, path string) (status int, text []byte, err error) {
	body, err := json.Marshal(map[string]string{"challengeId": call.Challenge, "sourceId": call.Source})
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.load.URLs[c.number%len(c.load.URLs)]+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if call.Key != "" {
		request.Header.Set("Idempotency-Key", call.Key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	return response.StatusCode, text, err
}
