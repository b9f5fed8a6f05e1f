//go:build faults

package main_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A failover is how Redis and Mayfly are set when one happens.
type failover struct {
	name     string
	replicas int
	redis    []string
	mayfly   []string
	// careful: what no replica has is not confirmed. Certain: and what is confirmed
	// is not forgotten.
	careful, certain bool
}

// failovers are all that are tried. Where replicas are wanted there are two: the
// one that is put in charge needs one as well.
func failovers() []failover {
	return []failover{
		{name: "failover by sentinel", replicas: 1},
		{
			name: "failover, min-replicas-to-write 1", replicas: 2, careful: true,
			redis: []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"},
		},
		{name: "failover, REDIS_WAIT=1", replicas: 2, careful: true, certain: true, mayfly: []string{"REDIS_WAIT=1"}},
	}
}

// TestFaultsFailover has Sentinel put a replica in charge while clients call. No
// replica has the last moments, so answers may contradict each other: how many
// sources met that is told, and no mistake. No source may see two instances, and
// after one reconcile nothing may run without a record.
func TestFaultsFailover(t *testing.T) {
	seed := faults.Seed(t)
	build(t, ".", programFlags()...) // so that Sentinel does not take a busy machine for a dead one
	var tallies []faults.Tally
	for _, how := range failovers() {
		t.Run(how.name, func(t *testing.T) { tallies = append(tallies, failOver(t, how, seed)) })
	}
	ok(t, faults.Print(os.Stdout, tallies))
}

func failOver(t *testing.T, how failover, seed uint64) faults.Tally {
	t.Helper()
	watched := redistest.Sentinel(t, how.replicas, how.redis...)
	keys := redis.NewKey()
	s := newServer(t, slices.Concat(quiet, how.mayfly, []string{
		"REDIS_URL=" + watched.URL, "MAYFLY_KEYS=" + keys, "ORPHAN_GRACE=0s",
		"CREATE_WAIT=" + (late / 2).String(), "FAULTS_LEASE=" + leaseFor.String(),
	})...)
	s.Start()
	known := ledger{t: t, store: openStore(t, watched.URL, keys), challenges: []string{challengeName(0)}, running: s.parts, parts: 1}
	f := &faultSite{ledger: known, servers: []*server{s}}
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": f.challenges[0], "scenario": pushService(t, s, "service:1"), "timeout": "3600s"})
	ok(t, openRedis(t, watched.Primary.URL()).Do(t.Context(), "WAIT", how.replicas, 10_000).Err()) // they have the challenge

	f.began = time.Now()
	load := f.load(fault{}, seed)
	var mended atomic.Bool
	load.More = func() bool { return !mended.Load() }
	done := make(chan []faults.Call, 1)
	go func() { done <- faults.Drive(t.Context(), load) }()
	<-time.After(2 * time.Second)
	f.cutOff(watched)
	alone := time.Since(f.began)
	<-time.After(3 * time.Second) // in which there is something to lose
	if how.careful {
		eventually(t, "callers are told that no replica knows", f.isRefused)
	}
	killed := time.Since(f.began)
	watched.Primary.Kill()
	for _, replica := range watched.Replicas {
		replica.Resume()
	}
	eventually(t, "a replica is in charge", func() error { return errors.Join(f.inCharge(watched), health(t, s, http.StatusOK)) })
	mended.Store(true)
	calls := <-done

	y := faults.Tally{Fault: how.name}
	y.Count(t, calls, []time.Duration{killed}, late)
	wantRefused(t, calls, how.careful, alone, killed)
	eventually(t, "nobody is at work", f.atRest)
	s.Tick("/reconcile")
	eventually(t, "nobody is at work", f.atRest)
	f.audit(&y) // before anybody asks
	calls = append(calls, faults.Ask(t.Context(), load, calls)...)
	y.Contradictions = len(faults.Check(faults.History{Calls: calls}))
	f.wantOneEach(calls, &y)
	if how.certain { // what was only read may have been known to no replica
		confirmed := slices.DeleteFunc(calls, func(c faults.Call) bool { return isRead(c) && c.Began < killed })
		for _, wrong := range faults.Check(faults.History{Calls: confirmed}) {
			t.Error(wrong)
		}
	}
	return y
}

// cutOff has no replica learn anything more from the primary.
func (f *faultSite) cutOff(watched redistest.Watched) {
	f.t.Helper()
	for _, replica := range watched.Replicas {
		replica.Pause() // so that it does not come back
	}
	ok(f.t, openRedis(f.t, watched.Primary.URL()).ClientKillByFilter(f.t.Context(), "TYPE", "replica").Err())
}

// isRefused returns an error unless a create is, because no replica knows of it.
func (f *faultSite) isRefused() error {
	answer, err := f.servers[0].Call(f.t.Context(), http.MethodPost, "/instance", map[string]any{"challengeId": f.challenges[0], "sourceId": "probe"})
	if err == nil && answer.Reason() != "UNAVAILABLE" {
		err = errors.New(answer.Raw)
	}
	return err
}

// inCharge returns an error unless a replica is in charge and all others follow it;
// from then on it is the one that is looked into.
func (f *faultSite) inCharge(watched redistest.Watched) error {
	for _, replica := range watched.Replicas {
		client := openRedis(f.t, replica.URL())
		info, err := client.Info(f.t.Context(), "replication").Result()
		if err != nil {
			return err
		}
		if strings.Contains(info, "role:master") && strings.Count(info, "state=online") == len(watched.Replicas)-1 {
			f.client = client
			return nil
		}
	}
	return errors.New("no replica is in charge of the others")
}

func isRead(c faults.Call) bool { return c.Verb == faults.Retrieve || c.Verb == faults.Query }

// wantRefused fails the test if an answer is none to its call, or if one confirmed
// a change that no replica had. What is repeated with its key may have been done before.
func wantRefused(t *testing.T, calls []faults.Call, careful bool, alone, killed time.Duration) {
	t.Helper()
	before := map[string]bool{}
	for _, c := range calls {
		before[c.Key] = before[c.Key] || c.Key != "" && c.Began < alone
	}
	for _, c := range calls {
		if c.Outcome == faults.Wrong {
			t.Errorf("%s of %s: %s", c.Verb, c.Source, c.Answer)
		}
		if careful && c.Began >= alone && c.Ended <= killed && c.Outcome == faults.Done && !isRead(c) && !before[c.Key] {
			t.Errorf("%s of %s succeeded while no replica knew of it: %s", c.Verb, c.Source, c.Answer)
		}
	}
}

// atRest returns an error while somebody holds a lease.
func (f *faultSite) atRest() error {
	for _, id := range f.challenges {
		for entry, err := range f.store.All(f.t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}) {
			if err != nil {
				return err
			}
			if entry.Leased {
				return errors.New("somebody is at work on " + string(entry.Instance.Key.Identity))
			}
		}
	}
	return nil
}

// wantOneEach has each source of these calls see one instance of a challenge at most.
func (f *faultSite) wantOneEach(calls []faults.Call, y *faults.Tally) {
	f.t.Helper()
	seen := map[string]bool{}
	for _, c := range calls {
		if seen[c.Source] {
			continue
		}
		seen[c.Source] = true
		answer := f.servers[0].Must(http.MethodGet, "/instance?sourceId="+c.Source, nil)
		if n := len(instancesIn(f.t, answer.Raw)); n > 1 {
			y.Note(f.t, &y.Doubled, "%s sees %d instances of one challenge: %s", c.Source, n, answer.Raw)
		}
	}
}

// instancesIn reads the answer to a query, which is a line for each instance.
func instancesIn(t *testing.T, raw string) (all []json.RawMessage) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(raw))
	for decoder.More() {
		var line json.RawMessage
		ok(t, decoder.Decode(&line))
		all = append(all, line)
	}
	return all
}
