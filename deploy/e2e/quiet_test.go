//go:build cluster

package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/knative"
)

const (
	// quietFor is how long nothing runs, and quietWithin when that is over at the
	// latest. Before it, Knative looks back a minute, the gateway's last pod stays,
	// the slow tick comes once, and a pod takes half a minute to end.
	quietFor    = 5 * time.Minute
	quietWithin = 14 * time.Minute
	// retention is how long the gateway's last pod stays here, and longer how much
	// longer than others it does at least. Ten minutes are too long for a test.
	retention = 90 * time.Second
	longer    = 30 * time.Second
)

// testQuiet leaves an installation alone on which an instance lives that never
// ends, and waits until nothing of ours has run for a while but Redis. The first
// call after it is answered, and all works.
func testQuiet(t *testing.T, i *installation) {
	id := i.challenge(t, 0)
	lives := i.create(t, id, "lives")
	ask := &instancev1.RetrieveInstanceRequest{ChallengeId: id, SourceId: lives.GetSourceId()}
	_, instances := i.clients(t, "gateway")
	before, err := instances.RetrieveInstance(t.Context(), ask)
	check(t, err)
	i.tickSoon(t)

	ran := i.watchQuiet(t)
	if ran["reconcile"].IsZero() {
		t.Error("the slow tick did not come")
	}
	if stayed := ran["gateway"].Sub(ran["retrieve-instance"]); stayed < longer {
		t.Errorf("the gateway's pod stayed %v longer than that of what it called, want %v", stayed, longer)
	}
	if schedule := i.schedule(t); schedule != knative.ScheduleOff {
		t.Errorf("the fast tick is on: %s", schedule)
	}

	_, fresh := i.clients(t, "gateway") // no connection has been kept
	began := time.Now()
	after, err := fresh.RetrieveInstance(t.Context(), ask)
	t.Logf("when nothing ran, the first call took %v", time.Since(began).Round(time.Millisecond))
	check(t, err)
	if !proto.Equal(before, after) {
		t.Errorf("the instance was %v and is %v", before, after)
	}
	other := i.challenge(t, 0)
	i.create(t, other, "1")
	challenges, _ := i.clients(t, "gateway")
	_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: other})
	check(t, err)
	i.wantNone(t, other)
}

// tickSoon has the slow tick come in one or two minutes, and as often as before:
// else it would come at any moment and, at worst, nearly double the time.
func (i *installation) tickSoon(t *testing.T) {
	t.Helper()
	if was := i.scheduleOf(t, "reconcile"); was != "*/15 * * * *" {
		t.Fatalf("the slow tick comes at %s", was)
	}
	minute := time.Now().Add(2*time.Minute).Minute() % 15
	i.reschedule(t, "reconcile", fmt.Sprintf("%d-59/15 * * * *", minute))
}

// watchQuiet returns when no pod of any function has been there for long enough,
// and when there was one of each function last. Once there was none, only the
// slow tick may wake a function.
func (i *installation) watchQuiet(t *testing.T) (ran map[string]time.Time) {
	t.Helper()
	ran = map[string]time.Time{}
	began, since, wasQuiet := time.Now(), time.Time{}, false
	late := time.After(quietWithin)
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for since.IsZero() || time.Since(since) < quietFor {
		select {
		case <-late:
			t.Fatalf("not quiet for %v within %v: %v", quietFor, quietWithin, i.pods(t))
		case <-look.C:
		}
		running := i.pods(t)
		for _, name := range running {
			ran[name] = time.Now()
		}
		if len(running) > 0 {
			since = time.Time{}
			if wasQuiet && slices.ContainsFunc(running, func(name string) bool { return name != "reconcile" }) {
				t.Fatalf("woken: %v", running)
			}
			continue
		}
		if since.IsZero() {
			since, wasQuiet = time.Now(), true
			t.Logf("quiet after %v", since.Sub(began).Round(time.Second))
		}
	}
	return ran
}
