//go:build cluster && faults

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// faultCalls is how many calls are made under each fault, unless
	// $FAULTS_CALLS says another number.
	faultCalls = 300
	// faultClients work at once, faultTogether of them on the same source.
	faultClients  = 9
	faultTogether = 3
	// faultStrikes is how often each fault strikes at least.
	faultStrikes = 3
	// leaves is within how long a client leaves that does not wait.
	leaves = 3 * time.Second
	// longestWait is how long a deployment waits for nothing at most. A pod that is
	// deleted without grace lives on for some seconds, and some are to take longer.
	longestWait = 5 * time.Second
	// updatedWithin is how long an update may take, and restedWithin how long all
	// that was begun.
	updatedWithin = 2 * time.Minute
	restedWithin  = 3 * time.Minute
)

// TestFaultsOnCluster has clients call at random, through the gateway, while one
// thing breaks again and again, and last while anything does. No answer may
// contradict another, and when it is over and one reconcile has run, all that is
// recorded and all that is there must agree. It has the cluster for itself.
func TestFaultsOnCluster(t *testing.T) {
	seed := faults.Seed(t)
	v := newVolume(t)
	i := prepare(t)
	v.keepFor(t, i)
	i.up(t, "--redis-volume")
	scenario := pushCards(t)
	all := everyFault()
	t.Run("harm is found", func(t *testing.T) {
		f := newFaultSite(t, i, scenario, seed)
		f.harm(t)
		f.clear(t, &faults.Tally{})
	})
	var tallies []faults.Tally
	for _, what := range append(all, anyFault(all)) {
		t.Run(what.name, func(t *testing.T) {
			y := faults.Tally{Fault: what.name}
			defer func() { tallies = append(tallies, y) }()
			f := newFaultSite(t, i, scenario, seed)
			f.under(t, what, &y)
			f.clear(t, &y)
		})
	}
	check(t, faults.Print(os.Stdout, tallies))
}

// A faultSite is an installation to be broken, and what is done to it meanwhile.
type faultSite struct {
	*installation

	seed       uint64
	random     *rand.Rand
	began      time.Time
	challenges []string // the nth has a pool of n
	updates    sync.WaitGroup
	updating   sync.Map // challenges that somebody updates
}

func newFaultSite(t *testing.T, i *installation, scenario string, seed uint64) *faultSite {
	t.Helper()
	f := &faultSite{installation: i, seed: seed, random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // It is to come again.
	for n := range 2 {
		f.challenges = append(f.challenges, i.cards(t, &challengev1.CreateChallengeRequest{
			Scenario: scenario, Timeout: durationpb.New(time.Hour), Min: int64(n), Additional: f.wait(),
		}))
	}
	return f
}

// wait is a setting that has each deployment take some time.
func (f *faultSite) wait() map[string]string {
	return map[string]string{"wait": time.Duration(f.random.Int64N(int64(longestWait))).String()}
}

// load is what clients do.
func (f *faultSite) load(t *testing.T) faults.Load {
	t.Helper()
	return faults.Load{
		URLs: []string{f.url("gateway")}, Dial: f.dial, Between: true, Challenges: f.challenges,
		Clients: faultClients, Together: faultTogether, Calls: faults.NumberOfCalls(t, faultCalls),
		Seed: f.seed, Leave: leaves, LeaveOne: 8, Began: f.began,
	}
}

// under has clients call under a fault, and checks what they were told and what
// is left.
func (f *faultSite) under(t *testing.T, what fault, y *faults.Tally) {
	t.Helper()
	f.reschedule(t, "reconcile", "* * * * *") // so that it is at work meanwhile
	f.began = time.Now()
	load := f.load(t)
	calls, mending := faults.Break(t.Context(), load, faultStrikes, func(random *rand.Rand) time.Duration {
		f.random = random
		return what.calm + time.Duration(500+random.IntN(2500))*time.Millisecond
	}, func(*rand.Rand) (mend func()) {
		f.update(t)
		return what.strike(t, f)
	})
	history := faults.History{Calls: calls}
	t.Logf("%d calls took %v", len(history.Calls), time.Since(f.began).Round(time.Second))
	y.Count(t, history.Calls, mending, slowest)
	history.Quiet = f.quiet(t)
	f.audit(t, y) // before anybody asks, for a delete would clean up what is stuck
	history.Calls = append(history.Calls, faults.Ask(t.Context(), load, history.Calls)...)
	for _, m := range faults.Check(history) {
		y.Note(t, &y.Contradictions, "%v", m)
	}
}

// update has all instances of a challenge be changed, whatever comes of it, unless
// they are: whoever organizes an event waits for one update before the next.
// Instances stay with their sources.
func (f *faultSite) update(t *testing.T) {
	t.Helper()
	strategies := []challengev1.UpdateStrategy{
		challengev1.UpdateStrategy_update_in_place, challengev1.UpdateStrategy_blue_green, challengev1.UpdateStrategy_recreate,
	}
	request := &challengev1.UpdateChallengeRequest{
		Id: f.challenges[f.random.IntN(len(f.challenges))], Additional: f.wait(),
		UpdateMask:     &fieldmaskpb.FieldMask{Paths: []string{"additional"}},
		UpdateStrategy: &strategies[f.random.IntN(len(strategies))],
	}
	if _, held := f.updating.LoadOrStore(request.GetId(), true); held {
		return
	}
	challenges, _ := f.clients(t, "gateway")
	f.updates.Go(func() {
		defer f.updating.Delete(request.GetId())
		ctx, cancel := context.WithTimeout(t.Context(), updatedWithin)
		defer cancel()
		if _, err := challenges.UpdateChallenge(ctx, request); status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("an update has not ended after %v: %v", updatedWithin, err)
		}
	})
}

// quiet waits until nobody is at work, and has one reconcile look at all.
func (f *faultSite) quiet(t *testing.T) (since time.Duration) {
	t.Helper()
	f.reschedule(t, "reconcile", knative.ScheduleOff)
	f.updates.Wait()
	f.atRest(t)
	clustertest.Eventually(t, restedWithin, "it is reconciled", func() error { return f.send(t.Context(), "reconcile", newTick()) })
	f.atRest(t) // what a reconcile does not end in its time is handed on
	return time.Since(f.began)
}

// atRest waits until nobody holds a lease.
func (f *faultSite) atRest(t *testing.T) {
	t.Helper()
	_, raw := f.openRedis(t)
	clustertest.Eventually(t, restedWithin, "nobody is at work", func() error {
		held, err := raw.Keys(t.Context(), "mayfly:{*}:l:*").Result()
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("these leases are held: %v", held)
		}
		return err
	})
}

// clear removes all challenges, after which nothing may be left.
func (f *faultSite) clear(t *testing.T, y *faults.Tally) {
	t.Helper()
	challenges, _ := f.clients(t, "gateway")
	for _, id := range f.challenges {
		_, err := challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
		check(t, err)
		f.wantNone(t, id)
	}
	_, raw := f.openRedis(t)
	for _, key := range keysOfChallenges(t, raw) {
		y.Note(t, &y.Apart, "%s is left of a challenge that is deleted", key)
	}
}
