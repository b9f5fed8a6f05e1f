//go:build faults

package main_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestFaultsFailover has Sentinel put a replica in charge while clients call. The
// replica may lack the last moments, so answers may contradict each other: how
// many sources met that is told, and no mistake. No source may see two
// instances, and after one reconcile nothing may run without a record.
func TestFaultsFailover(t *testing.T) {
	seed := faults.Seed(t)
	build(t, ".", programFlags()...) // so that Sentinel does not take a busy machine for a dead one
	watched := redistest.Sentinel(t)
	keys := redis.NewKey()
	s := newServer(t, append(quiet, "REDIS_URL="+watched.URL, "MAYFLY_KEYS="+keys, "ORPHAN_GRACE=0s", "CREATE_WAIT="+(late/2).String(), "FAULTS_LEASE="+leaseFor.String())...)
	s.Start()
	f := &faultSite{t: t, servers: []*server{s}, store: openStore(t, watched.URL, keys), challenges: []string{challengeName(0)}}
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": f.challenges[0], "scenario": pushService(t, s, "service:1"), "timeout": "3600s"})
	ok(t, openRedis(t, watched.Primary.URL()).Do(t.Context(), "WAIT", 1, 10_000).Err()) // the replica has the challenge

	f.began = time.Now()
	load := f.load(fault{}, seed)
	var mended atomic.Bool
	load.More = func() bool { return !mended.Load() }
	done := make(chan []faults.Call, 1)
	go func() { done <- faults.Drive(t.Context(), load) }()
	<-time.After(2 * time.Second) // so that there is something to lose
	watched.Primary.Kill()
	killed := time.Since(f.began)
	eventually(t, "the replica is in charge", func() error { return health(t, s, http.StatusOK) })
	mended.Store(true)
	calls := <-done

	y := faults.Tally{Fault: "failover by sentinel"}
	y.Count(t, calls, []time.Duration{killed}, late)
	eventually(t, "nobody is at work", f.atRest)
	s.Tick("/reconcile")
	y.Contradictions = len(faults.Check(faults.History{Calls: calls}))
	f.auditForgetful(calls, &y)
	ok(t, faults.Print(os.Stdout, []faults.Tally{y}))
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

// auditForgetful checks what holds although Redis forgot.
func (f *faultSite) auditForgetful(calls []faults.Call, y *faults.Tally) {
	f.t.Helper()
	running := f.servers[0].processes()
	held := map[ctf.SourceID]bool{}
	for entry, err := range f.store.All(f.t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(f.challenges[0])}) {
		ok(f.t, err)
		i := entry.Instance
		if pids := running[string(i.Key.Identity)]; len(pids) > 1 || held[i.Source] {
			y.Note(f.t, &y.Doubled, "%s has %s, which runs as %v, and maybe others", i.Source, i.Key.Identity, pids)
		}
		if i.State != ctf.Ready {
			y.Note(f.t, &y.Stuck, "%s of %s is %s: %s", i.Key.Identity, i.Source, i.State, i.Failure)
		}
		held[i.Source] = true
		delete(running, string(i.Key.Identity))
	}
	for identity, pids := range running {
		y.Note(f.t, &y.Unrecorded, "%v of %s run without a record", pids, identity)
	}
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
