//go:build faults

package main_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// A holding is an instance as it is recorded, and what runs of it.
type holding struct {
	ctf.AuditEntry
	parts []string
}

// A resource is one of a checkpoint.
type resource struct {
	Type    string
	Outputs struct {
		PID      int
		Metadata struct{ UID string }
	}
}

// part names what a resource is where it runs; empty is nothing that runs.
func (r resource) part() string {
	switch r.Type {
	case "process:index:Process":
		return strconv.Itoa(r.Outputs.PID)
	case "kubernetes:core/v1:ConfigMap":
		return r.Outputs.Metadata.UID
	}
	return ""
}

// audit compares what must agree when all is quiet: records, what runs, indexes,
// leases and checkpoints.
func (f *faultSite) audit(y *faults.Tally) {
	f.t.Helper()
	running := f.running()
	for _, id := range f.challenges {
		key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}
		held := map[ctf.SourceID]bool{}
		for entry, err := range f.store.All(f.t.Context(), key) {
			ok(f.t, err)
			identity := string(entry.Instance.Key.Identity)
			h := holding{entry, running[identity]}
			delete(running, identity)
			f.look(h, held[entry.Instance.Source], y)
			held[entry.Instance.Source] = entry.Instance.Source != ""
			f.lookUp(h, y)
			f.unwind(h, y)
		}
		f.lookAround(key, y)
	}
	for identity, parts := range running {
		y.Note(f.t, &y.Unrecorded, "%v of %s run without a record", parts, identity)
	}
	f.lookBehind(y)
}

// look compares a record with what runs.
func (f *faultSite) look(h holding, second bool, y *faults.Tally) {
	i := h.Instance
	switch {
	case i.State != ctf.Ready || h.Leased:
		y.Note(f.t, &y.Stuck, "%s of %s is %s, leased %v: %s", i.Key.Identity, i.Source, i.State, h.Leased, i.Failure)
	case len(h.parts) < f.parts:
		y.Note(f.t, &y.Lost, "%s of %s does not run: of it are there %v", i.Key.Identity, i.Source, h.parts)
	case len(h.parts) > f.parts:
		y.Note(f.t, &y.Doubled, "%s of %s runs more than once: %v", i.Key.Identity, i.Source, h.parts)
	case second:
		y.Note(f.t, &y.Doubled, "%s has %s and another one", i.Source, i.Key.Identity)
	}
}

// lookUp finds a record by the indexes.
func (f *faultSite) lookUp(h holding, y *faults.Tally) {
	i := h.Instance
	if i.Source != "" {
		found := false
		for other, err := range f.store.BySource(f.t.Context(), ctf.DefaultTenant, i.Source) {
			ok(f.t, err)
			found = found || other.Key == i.Key
		}
		if !found {
			y.Note(f.t, &y.Apart, "%s is not found by its source %s", i.Key.Identity, i.Source)
		}
	}
	if i.Until != nil && !f.announced(i) {
		y.Note(f.t, &y.Apart, "%s ends at %v, and nobody will look at it", i.Key.Identity, i.Until)
	}
}

// announced tells whether something is due by an instance's end that has it
// looked at.
func (f *faultSite) announced(i ctf.Instance) bool {
	due, err := f.client.ZRangeArgs(f.t.Context(), goredis.ZRangeArgs{
		Key: "mayfly:due", ByScore: true, Start: "-inf", Stop: i.Until.Unix() + 1,
	}).Result()
	ok(f.t, err)
	return slices.ContainsFunc(due, func(member string) bool {
		_, text, _ := strings.Cut(member, " ")
		var what []string // kind, tenant, challenge and name
		ok(f.t, json.Unmarshal([]byte(text), &what))
		name := map[string]string{"instance": string(i.Key.Identity), "source": string(i.Source)}[what[0]]
		return what[2] == string(i.Key.Challenge.ID) && what[0] != "pool" && what[3] == name
	})
}

// unwind compares the checkpoint with what runs.
func (f *faultSite) unwind(h holding, y *faults.Tally) {
	lease, err := f.store.Lease(f.t.Context(), h.Instance.Key)
	ok(f.t, err)
	defer lease.Release()
	work, err := lease.Load(f.t.Context())
	ok(f.t, err)
	var base struct {
		Deployment struct {
			PendingOperations []any `json:"pending_operations"`
			Resources         []resource
		}
	}
	ok(f.t, json.Unmarshal(work.Checkpoint.Base, &base))
	var parts []string
	for _, r := range base.Deployment.Resources {
		if part := r.part(); part != "" {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	if !slices.Equal(parts, h.parts) || len(base.Deployment.PendingOperations) > 0 || len(work.Checkpoint.Journal) > 0 {
		y.Note(f.t, &y.Apart, "the checkpoint of %s knows %v and %d entries more, and %v run: %s", h.Instance.Key.Identity, parts,
			len(work.Checkpoint.Journal), h.parts, h.Instance.Failure)
	}
}

// lookAround finds a challenge by the list of all, and its pool as it should be.
func (f *faultSite) lookAround(key ctf.ChallengeKey, y *faults.Tally) {
	found := false
	for c, err := range f.store.Challenges(f.t.Context(), ctf.DefaultTenant) {
		ok(f.t, err)
		found = found || c.Key == key
	}
	if !found {
		y.Note(f.t, &y.Apart, "the challenge %s is in no list", key.ID)
	}
	c, err := f.store.Challenge(f.t.Context(), key)
	ok(f.t, err)
	pooled := int64(0)
	for entry, err := range f.store.All(f.t.Context(), key) {
		ok(f.t, err)
		if entry.Instance.Source == "" {
			pooled++
		}
	}
	if pooled > c.Pool.Min {
		y.Note(f.t, &y.Doubled, "the pool of %s holds %d, and should %d", key.ID, pooled, c.Pool.Min)
	}
}

// lookBehind finds what is left of instances that have no record.
func (f *faultSite) lookBehind(y *faults.Tally) {
	recorded := map[string]bool{}
	for _, key := range f.keys("mayfly:{*}:i:*") {
		recorded[strings.Replace(key, "}:i:", "}:", 1)] = true
	}
	for _, kind := range []string{"x", "j", "l"} {
		for _, key := range f.keys("mayfly:{*}:" + kind + ":*") {
			if !recorded[strings.Replace(key, "}:"+kind+":", "}:", 1)] {
				y.Note(f.t, &y.Apart, "%s has no record", key)
			}
		}
	}
}

// clear removes all challenges, after which nothing may be left.
func (f *faultSite) clear(y *faults.Tally) {
	f.t.Helper()
	for _, id := range f.challenges {
		f.servers[0].Must(http.MethodDelete, "/challenge/"+id, nil)
	}
	for _, s := range f.servers {
		wantNothingRunning(f.t, s)
	}
	for identity, parts := range f.running() {
		y.Note(f.t, &y.Unrecorded, "%v of %s are left", parts, identity)
	}
	for _, key := range f.keys("mayfly:{*}:*") {
		if !strings.HasSuffix(key, "}:o") {
			y.Note(f.t, &y.Apart, "%s is left of a challenge that is deleted", key)
		}
	}
	for _, id := range f.challenges {
		if answer := f.servers[0].try(f.t, http.MethodGet, "/challenge/"+id, nil); answer.Status != http.StatusNotFound {
			y.Note(f.t, &y.Stuck, "the challenge %s is there: %s", id, answer.Raw)
		}
	}
}
