//go:build faults

package main_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

const (
	// faultCalls is how many calls are made under each fault, unless
	// $FAULTS_CALLS says another number.
	faultCalls = 1200
	// faultClients work at once, faultTogether of them on the same source.
	faultClients  = 9
	faultTogether = 3
	// faultStrikes is how often each fault strikes at least.
	faultStrikes = 3
	// late is how long a call may take, whatever happens.
	late = time.Minute
)

// TestFaults has clients call at random while one thing breaks again and again,
// and last while two do at once. No answer may contradict another, and when all
// is mended and one reconcile has run, all that is recorded and all that runs
// must agree.
func TestFaults(t *testing.T) {
	seed := faults.Seed(t)
	all := slices.Concat(everyFault(), clusterFaults(t))
	var tallies []faults.Tally
	for _, fault := range slices.Concat(all, mixedFaults(all)) {
		t.Run(fault.name, func(t *testing.T) {
			y := faults.Tally{Fault: fault.name}
			defer func() {
				if !t.Skipped() {
					tallies = append(tallies, y)
				}
			}()
			underFault(t, fault, seed, &y)
		})
	}
	ok(t, faults.Print(os.Stdout, tallies))
}

func underFault(t *testing.T, what fault, seed uint64, y *faults.Tally) {
	f := newFaultSite(t, what, seed)
	f.began = time.Now()
	load := f.load(what, seed)
	var met []int64
	meet := func() {
		if what.met != nil {
			met = append(met, what.met(f))
		} else {
			met = append(met, int64(len(met)))
		}
	}
	stop := f.beside(what, seed)
	defer stop()
	least := int64(faultStrikes)
	if what.mixed && !what.disk {
		least *= 2 // for there are many pairs
	}
	calls, mending := faults.Break(t.Context(), load, least, func(random *rand.Rand) time.Duration {
		f.random = random
		return what.calm + time.Duration(300+random.IntN(1500))*time.Millisecond
	}, func(random *rand.Rand) (mend func()) {
		meet()
		mend = what.strike(f)
		f.update(what)
		if mend == nil {
			return nil
		}
		lasts := time.Duration(random.IntN(500)) * time.Millisecond
		if len(what.failing) > 0 && !what.mixed {
			lasts += 2 * time.Second // a busy machine is to deploy something meanwhile
		}
		<-time.After(lasts)
		return mend
	})
	stop()
	f.wantBeside(what)
	meet()
	history := faults.History{Calls: calls}
	y.Count(t, history.Calls, mending, late)
	if y.Strikes = what.times(met, calls); y.Strikes == 0 {
		t.Errorf("nobody met it: %s breaks nothing", what.name)
	}
	if len(what.failing) > 0 && !what.mixed && y.Undone == 0 {
		t.Errorf("no deployment failed: %s breaks nothing", what.name)
	}
	history.Quiet, history.Deaths = f.quiet(), f.deaths
	for _, each := range f.mistakes {
		y.Note(f.t, &y.Contradictions, "%s", each)
	}
	f.expired(y)
	f.audit(y) // before anybody asks, for a delete would clean up what is stuck
	history.Calls = append(history.Calls, faults.Ask(t.Context(), load, history.Calls)...)
	for _, m := range faults.Check(history) {
		y.Note(f.t, &y.Contradictions, "%v", m)
	}
	f.clear(y)
	if t.Failed() {
		for _, s := range f.servers {
			t.Logf("what Mayfly said:\n%s", s.log)
		}
	}
}

// audit compares what must agree when all is quiet.
func (f *faultSite) audit(y *faults.Tally) {
	f.t.Helper()
	for _, each := range f.flaws(y) {
		y.Note(f.t, each.column, "%s", each.what)
	}
}

// clear removes all challenges, after which nothing may be left.
func (f *faultSite) clear(y *faults.Tally) {
	f.t.Helper()
	for c, err := range f.store.Challenges(f.t.Context(), ctf.DefaultTenant) {
		ok(f.t, err)
		f.servers[0].Must(http.MethodDelete, "/challenge/"+string(c.Key.ID), nil)
	}
	for _, s := range f.servers {
		wantNothingRunning(f.t, s)
	}
	for identity, parts := range f.running() {
		y.Note(f.t, &y.Unrecorded, "%v of %s are left", parts, identity)
	}
	for _, key := range f.left() {
		y.Note(f.t, &y.Apart, "%s is left of a challenge that is deleted", key)
	}
	for _, id := range f.challenges {
		if answer := f.servers[0].try(f.t, http.MethodGet, "/challenge/"+id, nil); answer.Status != http.StatusNotFound {
			y.Note(f.t, &y.Stuck, "the challenge %s is there: %s", id, answer.Raw)
		}
	}
}
