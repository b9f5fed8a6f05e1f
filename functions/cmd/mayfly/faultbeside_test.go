//go:build faults

package main_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// callAgain is how long somebody waits before a call that got no clear answer is
	// made once more.
	callAgain = 50 * time.Millisecond
	// seenAlive and the others are what must be seen while nothing that deployments
	// need breaks: a check that never sees it shows nothing.
	seenAlive   = "an instance before its end"
	seenEnded   = "an instance after its end"
	seenChanged = "a challenge that was updated"
	seenDeleted = "a challenge that was deleted"
)

// beside has somebody look at instances that end, and somebody organize challenges
// that nobody else calls, until stop is called. What they are told is compared at
// once, for each knows all that was done before.
func (f *faultSite) beside(what fault, seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var group sync.WaitGroup
	for role, do := range []func(*party, int){(*party).outlive, (*party).organize} {
		p := &party{faultSite: f, what: what, random: rand.New(rand.NewPCG(seed, uint64(3+role)))}
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				do(p, n)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// wantBeside fails the test unless those beside it saw what they look for.
func (f *faultSite) wantBeside(what fault) {
	f.t.Helper()
	if len(what.failing) > 0 {
		return // they may never have got anything
	}
	for _, sight := range []string{seenAlive, seenEnded, seenChanged, seenDeleted} {
		if f.seen[sight] == 0 {
			f.t.Errorf("nobody saw %s, only %v", sight, slices.Collect(maps.Keys(f.seen)))
		}
	}
}

// see counts what was seen.
func (f *faultSite) see(sight string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[sight]++
}

// mistake notes what contradicts what was said before.
func (f *faultSite) mistake(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mistakes = append(f.mistakes, fmt.Sprintf("%v: ", time.Since(f.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// excuses tells whether an error is what is said while something is broken.
func (what fault) excuses(answer reply) bool {
	return answer.Reason() == "UNAVAILABLE" || slices.Contains(what.failing, answer.Reason())
}

// A party is somebody who calls while a fault strikes, and chooses by chance.
type party struct {
	*faultSite

	what   fault
	random *rand.Rand
}

// calls makes a call until it has an answer that is clear, of any of the servers,
// and is given up as often as those of other callers. Unsure tells that it may have
// been carried out before it was made again.
func (p *party) calls(method, path string, body any) (answer reply, unsure bool) {
	header := http.Header{"Idempotency-Key": {method + path + fmt.Sprint(body)}} // only creates know it
	since := time.Now()
	for time.Since(since) < 2*patience {
		ctx, cancel := context.WithTimeout(p.t.Context(), p.what.waits(p.random))
		answer, err := p.servers[p.random.IntN(len(p.servers))].callWith(ctx, header, method, path, body)
		cancel()
		if err == nil && !p.what.excuses(answer) {
			return answer, unsure
		}
		unsure = true
		<-time.After(callAgain)
	}
	p.mistake("%s %s has no clear answer in %v", method, path, 2*patience)
	return reply{}, true
}

// does is calls for what must succeed, unless it was done before with no answer:
// then again is what may be said.
func (p *party) does(method, path string, body any, again string) (answer reply, unsure bool) {
	answer, unsure = p.calls(method, path, body)
	if answer.Status != 0 && answer.Status != http.StatusOK && (!unsure || answer.Reason() != again) {
		p.mistake("%s %s is answered %s, and it may have been done before: %v", method, path, answer.Raw, unsure)
	}
	return answer, unsure
}
