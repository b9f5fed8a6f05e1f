package faults_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// TestBetween: what an ingress says of itself is no answer, where there is one.
func TestBetween(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status  int
		body    string
		between bool
		want    faults.Outcome
	}{
		"an ingress says so":                {http.StatusBadGateway, "Bad Gateway", true, faults.Unclear},
		"an ingress does not know why":      {http.StatusInternalServerError, "Internal Server Error", true, faults.Unclear},
		"there is no ingress":               {http.StatusBadGateway, "Bad Gateway", false, faults.Wrong},
		"an ingress knows no such function": {http.StatusNotFound, "404 page not found", true, faults.Wrong},
		"Mayfly itself says so": {
			http.StatusServiceUnavailable, `{"details":[{"reason":"UNAVAILABLE"}]}`, true, faults.Unclear,
		},
		"Mayfly does not know why": {
			http.StatusInternalServerError, `{"details":[{"reason":"INTERNAL"}]}`, true, faults.Wrong,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host != "gateway.example" {
					t.Errorf("asked for %s", r.Host)
				}
				w.WriteHeader(answer.status)
				_, _ = w.Write([]byte(answer.body))
			}))
			defer server.Close()
			calls := faults.Drive(t.Context(), faults.Load{
				URLs: []string{"http://gateway.example"}, Challenges: []string{"1"}, Clients: 1, Together: 1, Calls: 2,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(server.URL, "http://"))
				},
				Between: answer.between, Began: time.Now(),
			})
			if len(calls) != 2 {
				t.Errorf("%d calls, want 2", len(calls))
			}
			for _, c := range calls {
				if c.Outcome != answer.want {
					t.Errorf("%s is %s, want %s: %s", c.Verb, c.Outcome, answer.want, c.Answer)
				}
			}
		})
	}
}

// TestFailing: a create may fail with the reasons that are named, and be refused
// because too much is asked for; nothing else may, and not without a reason.
func TestFailing(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]map[faults.Verb]faults.Outcome{
		"DEPLOYMENT_FAILED":  {faults.Create: faults.Undone},
		"OCI_INTERACTION":    {},
		"INTERNAL_ERROR":     {},
		"RESOURCE_EXHAUSTED": {faults.Create: faults.Refused},
		"INSTANCE_NOT_FOUND": {faults.Retrieve: faults.Missing, faults.Renew: faults.Missing, faults.Delete: faults.Missing},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"details":[{"reason":"` + reason + `"}]}`))
		}))
		defer server.Close()
		seen := map[faults.Verb]bool{}
		for _, c := range faults.Drive(t.Context(), faults.Load{
			URLs: []string{server.URL}, Challenges: []string{"1"}, Clients: 2, Together: 2, Calls: 50,
			Failing: []string{"DEPLOYMENT_FAILED"}, Began: time.Now(),
		}) {
			seen[c.Verb] = true
			if want := cmp.Or(want[c.Verb], faults.Wrong); c.Outcome != want {
				t.Errorf("%s that ends with %s is %s, want %s", c.Verb, reason, c.Outcome, want)
			}
		}
		if len(seen) < 5 {
			t.Errorf("only these were called: %v", seen)
		}
	}
}

// TestQuery: each entry says that it was there, and what is not shown was not, if
// the answer came to its end. None is shown twice, or to whom it does not belong.
func TestQuery(t *testing.T) {
	t.Parallel()
	const unavailable, internal = `{"error":{"details":[{"reason":"UNAVAILABLE"}]}}`, `{"error":{"details":[{"reason":"INTERNAL_ERROR"}]}}`
	entry := func(challenge, source string) string {
		return `{"result":{"challengeId":"` + challenge + `","sourceId":"` + source + `","since":"now","connectionInfo":"here"}}`
	}
	both := func(first, second faults.Outcome) []faults.Outcome { return []faults.Outcome{first, second} }
	for name, answer := range map[string]struct {
		lines  func(source string) string
		status int
		broken bool
		want   []faults.Outcome
	}{
		"none":              {func(string) string { return "" }, http.StatusOK, false, both(faults.Missing, faults.Missing)},
		"one":               {func(s string) string { return entry("2", s) }, http.StatusOK, false, both(faults.Missing, faults.Done)},
		"two":               {func(s string) string { return entry("2", s) + "\n" + entry("1", s) }, http.StatusOK, false, both(faults.Done, faults.Done)},
		"one twice":         {func(s string) string { return entry("2", s) + entry("1", s) + entry("2", s) }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
		"somebody else's":   {func(string) string { return entry("2", "x") }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
		"nobody's":          {func(s string) string { return entry("3", s) }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
		"not all of one":    {func(string) string { return `{"result":{"challengeId":"1"}}` }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
		"garbled":           {func(s string) string { return entry("2", s) + "{" }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
		"broken off":        {func(s string) string { return entry("2", s) + "{" }, http.StatusOK, true, both(faults.Unclear, faults.Done)},
		"away":              {func(s string) string { return entry("2", s) + unavailable }, http.StatusOK, false, both(faults.Unclear, faults.Done)},
		"away at once":      {func(string) string { return `{"details":[{"reason":"UNAVAILABLE"}]}` }, http.StatusServiceUnavailable, false, both(faults.Unclear, faults.Unclear)},
		"not even an error": {func(string) string { return "" }, http.StatusBadGateway, false, both(faults.Wrong, faults.Wrong)},
		"a mistake":         {func(s string) string { return entry("2", s) + internal }, http.StatusOK, false, both(faults.Wrong, faults.Wrong)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				source := r.URL.Query().Get("sourceId")
				if source == "" { // it is no query
					_, _ = w.Write([]byte("{}"))
					return
				}
				w.WriteHeader(answer.status)
				_, _ = w.Write([]byte(answer.lines(source)))
				if answer.broken {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			var got []faults.Outcome
			for _, c := range faults.Drive(t.Context(), faults.Load{
				URLs: []string{server.URL}, Challenges: []string{"1", "2"}, Clients: 1, Together: 1, Calls: 40, Began: time.Now(),
			}) {
				if c.Verb == faults.Query {
					got = append(got, c.Outcome)
				}
			}
			if len(got) == 0 || !slices.Equal(got, slices.Repeat(answer.want, len(got)/2)) {
				t.Errorf("%v, want %v", got, answer.want)
			}
		})
	}
}

// TestSeed: what was answered changes nothing of what clients choose.
func TestSeed(t *testing.T) {
	t.Parallel()
	chosen := func(seed uint64, answer http.HandlerFunc) (all [][]faults.Call) {
		server := httptest.NewServer(answer)
		defer server.Close()
		all = make([][]faults.Call, 3)
		for _, c := range faults.Drive(t.Context(), faults.Load{
			URLs: []string{server.URL}, Challenges: []string{"1", "2"}, Clients: 3, Together: 2, Calls: 60, Seed: seed, Began: time.Now(),
		}) {
			of := &all[c.Client]
			if c.Key == "" || len(*of) == 0 || (*of)[len(*of)-1].Key != c.Key { // else it is tried again
				*of = append(*of, faults.Call{Verb: c.Verb, Challenge: c.Challenge, Key: c.Key})
			}
		}
		return all
	}
	answered := chosen(1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	var n atomic.Int64
	unclear := chosen(1, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(`{"details":[{"reason":"UNAVAILABLE"}]}`))
	})
	others := chosen(2, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	for client := range answered {
		both := min(len(answered[client]), len(unclear[client]))
		if d := gocmp.Diff(answered[client][:both], unclear[client][:both]); d != "" || both < 3 {
			t.Errorf("client %d chose something else after %d: %s", client, both, d)
		}
		if both := min(both, len(others[client])); gocmp.Equal(answered[client][:both], others[client][:both]) {
			t.Errorf("client %d chose the same by another seed", client)
		}
	}
}

// TestBreak: what the nth strike chooses by is the same however much was chosen
// before, and recovery counts from before it is mended.
func TestBreak(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer server.Close()
	const least = 3
	drawn := func(seed uint64, more int) (all []uint64) {
		began := time.Now()
		var mended []time.Duration
		_, mending := faults.Break(t.Context(), faults.Load{
			URLs: []string{server.URL}, Challenges: []string{"1"}, Clients: 1, Together: 1, Seed: seed, Began: began,
		}, least, func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(1 + more)) }, func(r *rand.Rand) func() {
			all = append(all, r.Uint64())
			for range more {
				r.Uint64()
			}
			return func() { mended = append(mended, time.Since(began)) }
		})
		if len(mending) < least || len(mended) != len(mending) {
			t.Errorf("%d strikes, %d mended", len(mending), len(mended))
		}
		for n := range mended {
			if mending[n] > mended[n] {
				t.Errorf("mended at %v, and from %v on", mended[n], mending[n])
			}
		}
		return all[:least]
	}
	few, many := drawn(1, 0), drawn(1, 9)
	if d := gocmp.Diff(few, many); d != "" {
		t.Error(d)
	}
	if others := drawn(2, 0); gocmp.Equal(few, others) || few[0] == few[1] {
		t.Errorf("nothing is random: %v, %v", few, others)
	}
}
