//go:build cluster && faults

package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// A flaw is something that does not agree with something else.
type flaw struct {
	column *int // of a tally
	what   string
}

// audit compares what must agree when all is quiet: records, objects, indexes and
// leases. Kubernetes collects what was deleted, and pools are filled, after that.
func (f *faultSite) audit(t *testing.T, y *faults.Tally) {
	t.Helper()
	store, raw := f.openRedis(t)
	late := time.After(settled)
	for flaws := f.flaws(t, store, raw, y); len(flaws) > 0; flaws = f.flaws(t, store, raw, y) {
		select {
		case <-late:
			for _, each := range flaws {
				y.Note(t, each.column, "%s", each.what)
			}
			return
		case <-time.After(lookEvery):
		}
	}
}

// flaws are those that are there now.
func (f *faultSite) flaws(t *testing.T, store *redis.Store, raw *goredis.Client, y *faults.Tally) (all []flaw) {
	t.Helper()
	recorded := map[string]bool{}
	for n, id := range f.challenges {
		held := map[ctf.SourceID]int{}
		mine := map[string]bool{}
		key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}
		c, err := store.Challenge(t.Context(), key)
		check(t, err)
		for entry, err := range store.All(t.Context(), key) {
			check(t, err)
			i := entry.Instance
			held[i.Source]++
			mine[string(i.Key.Identity)], recorded[string(i.Key.Identity)] = true, true
			if i.State != ctf.Ready || entry.Leased {
				all = append(all, flaw{&y.Stuck, fmt.Sprintf("%s of %s is %s, leased %v: %s", i.Key.Identity, i.Source, i.State, entry.Leased, i.Failure)})
			}
			if i.Generation != c.Generation && i.Failure == "" {
				all = append(all, flaw{&y.Stuck, fmt.Sprintf("%s of %s is of generation %d, not %d", i.Key.Identity, i.Source, i.Generation, c.Generation)})
			}
			if i.Source != "" && !isFound(t, store, i) {
				all = append(all, flaw{&y.Apart, fmt.Sprintf("%s is not found by its source %s", i.Key.Identity, i.Source)})
			}
		}
		for source, has := range held {
			if source == "" && has > n || source != "" && has > 1 {
				all = append(all, flaw{&y.Doubled, fmt.Sprintf("%q has %d instances of %s", source, has, id)})
			}
		}
		lost, unrecorded := f.compare(t, id, mine)
		for _, what := range lost {
			all = append(all, flaw{&y.Lost, what})
		}
		for _, what := range unrecorded {
			all = append(all, flaw{&y.Unrecorded, what})
		}
	}
	for _, key := range strays(t, raw, recorded) {
		all = append(all, flaw{&y.Apart, key + " has no record, or is a lease"})
	}
	return all
}

// isFound tells whether an instance is among those of its source.
func isFound(t *testing.T, store *redis.Store, i ctf.Instance) bool {
	t.Helper()
	var found []ctf.InstanceKey
	for other, err := range store.BySource(t.Context(), ctf.DefaultTenant, i.Source) {
		check(t, err)
		found = append(found, other.Key)
	}
	return slices.Contains(found, i.Key)
}
