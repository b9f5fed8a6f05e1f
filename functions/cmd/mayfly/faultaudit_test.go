package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
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

// A flaw is something that does not agree with something else.
type flaw struct {
	column *int // of a tally
	what   string
}

// A ledger is what is on record of some challenges, and what runs, which must
// agree when all is quiet.
type ledger struct {
	t          *testing.T
	store      *redis.Store
	client     *goredis.Client
	challenges []string
	// running lists what runs of each instance, by identity, in order; a whole one
	// is made of so many parts.
	running func() map[string][]string
	parts   int
}

// An audited ledger is one in which flaws are found.
type audited struct {
	*ledger

	y     *faults.Tally
	flaws []flaw
}

func (a *audited) note(column *int, format string, args ...any) {
	a.flaws = append(a.flaws, flaw{column, fmt.Sprintf(format, args...)})
}

// flaws are those of records, what runs, indexes, leases and checkpoints.
func (l *ledger) flaws(y *faults.Tally) []flaw {
	l.t.Helper()
	a := &audited{ledger: l, y: y}
	running := l.running()
	for _, id := range l.challenges {
		key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}
		held := map[ctf.SourceID]bool{}
		var all []ctf.Instance
		for entry, err := range l.store.All(l.t.Context(), key) {
			ok(l.t, err)
			all = append(all, entry.Instance)
			identity := string(entry.Instance.Key.Identity)
			h := holding{entry, running[identity]}
			delete(running, identity)
			a.look(h, held[entry.Instance.Source])
			held[entry.Instance.Source] = entry.Instance.Source != ""
			a.lookUp(h)
			if !entry.Leased { // else it is a flaw already
				a.unwind(h)
			}
		}
		a.lookAround(key)
		a.lookInside(key, all)
	}
	for identity, parts := range running {
		a.note(&y.Unrecorded, "%v of %s run without a record", parts, identity)
	}
	a.lookBehind()
	return a.flaws
}

// look compares a record with what runs.
func (a *audited) look(h holding, second bool) {
	i := h.Instance
	switch {
	case i.State != ctf.Ready || h.Leased:
		a.note(&a.y.Stuck, "%s of %s is %s, leased %v: %s", i.Key.Identity, i.Source, i.State, h.Leased, i.Failure)
	case len(h.parts) < a.parts:
		a.note(&a.y.Lost, "%s of %s does not run: of it are there %v", i.Key.Identity, i.Source, h.parts)
	case len(h.parts) > a.parts:
		a.note(&a.y.Doubled, "%s of %s runs more than once: %v", i.Key.Identity, i.Source, h.parts)
	case second:
		a.note(&a.y.Doubled, "%s has %s and another one", i.Source, i.Key.Identity)
	}
}

// lookUp finds a record by the indexes across challenges.
func (a *audited) lookUp(h holding) {
	i := h.Instance
	if i.Source != "" {
		found := false
		for other, err := range a.store.BySource(a.t.Context(), ctf.DefaultTenant, i.Source) {
			ok(a.t, err)
			found = found || other.Key == i.Key
		}
		if !found {
			a.note(&a.y.Apart, "%s is not found by its source %s", i.Key.Identity, i.Source)
		}
	}
	if i.Until != nil && !a.announced(i) {
		a.note(&a.y.Apart, "%s ends at %v, and nobody will look at it", i.Key.Identity, i.Until)
	}
}

// announced tells whether something is due by an instance's end that has it
// looked at.
func (l *ledger) announced(i ctf.Instance) bool {
	due, err := l.client.ZRangeArgs(l.t.Context(), goredis.ZRangeArgs{
		Key: "mayfly:due", ByScore: true, Start: "-inf", Stop: i.Until.Unix() + 1,
	}).Result()
	ok(l.t, err)
	return slices.ContainsFunc(due, func(member string) bool {
		_, text, _ := strings.Cut(member, " ")
		var what []string // kind, tenant, challenge and name
		ok(l.t, json.Unmarshal([]byte(text), &what))
		name := map[string]string{"instance": string(i.Key.Identity), "source": string(i.Source)}[what[0]]
		return what[2] == string(i.Key.Challenge.ID) && what[0] != "pool" && what[3] == name
	})
}

// unwind compares the checkpoint with what runs.
func (a *audited) unwind(h holding) {
	lease, err := a.store.Lease(a.t.Context(), h.Instance.Key)
	ok(a.t, err)
	defer lease.Release()
	work, err := lease.Load(a.t.Context())
	ok(a.t, err)
	var base struct {
		Deployment struct {
			PendingOperations []any `json:"pending_operations"`
			Resources         []resource
		}
	}
	if len(work.Checkpoint.Base) > 0 {
		ok(a.t, json.Unmarshal(work.Checkpoint.Base, &base))
	}
	var parts []string
	for _, r := range base.Deployment.Resources {
		if part := r.part(); part != "" {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	if !slices.Equal(parts, h.parts) || len(base.Deployment.PendingOperations) > 0 || len(work.Checkpoint.Journal) > 0 {
		a.note(&a.y.Apart, "the checkpoint of %s knows %v and %d entries more, and %v run: %s", h.Instance.Key.Identity, parts,
			len(work.Checkpoint.Journal), h.parts, h.Instance.Failure)
	}
}

// lookAround finds a challenge by the list of all.
func (a *audited) lookAround(key ctf.ChallengeKey) {
	for c, err := range a.store.Challenges(a.t.Context(), ctf.DefaultTenant) {
		ok(a.t, err)
		if c.Key == key {
			return
		}
	}
	a.note(&a.y.Apart, "the challenge %s is in no list", key.ID)
}

// lookInside compares what a challenge itself knows of its instances, its pool
// above all, with their records.
func (a *audited) lookInside(key ctf.ChallengeKey, all []ctf.Instance) {
	c, err := a.store.Challenge(a.t.Context(), key)
	ok(a.t, err)
	var ids, pooled, deleting, held []string
	for _, i := range all {
		id := string(i.Key.Identity)
		ids = append(ids, id)
		if i.Generation != c.Generation && i.Failure == "" {
			a.note(&a.y.Stuck, "%s of %s is of generation %d, and nobody brings it to %d", id, i.Source, i.Generation, c.Generation)
		}
		switch {
		case i.State == ctf.Deleting:
			deleting = append(deleting, id)
		case i.Source == "":
			pooled = append(pooled, id)
		}
		if i.Source != "" {
			held = append(held, string(i.Source)+" has "+id)
		}
	}
	prefix := a.prefix(key)
	for _, list := range []struct {
		of   string
		want []string
		read func(context.Context, string) *goredis.StringSliceCmd
	}{
		{"i", ids, a.client.SMembers},
		{"q", pooled, a.client.SMembers},
		{"p", pooled, func(ctx context.Context, name string) *goredis.StringSliceCmd {
			return a.client.LRange(ctx, name, 0, -1)
		}},
		{"d", deleting, func(ctx context.Context, name string) *goredis.StringSliceCmd {
			return a.client.ZRange(ctx, name, 0, -1)
		}},
	} {
		got, err := list.read(a.t.Context(), prefix+list.of).Result()
		ok(a.t, err)
		a.compare("the list "+list.of+" of "+string(key.ID), got, list.want)
	}
	holders, err := a.client.HGetAll(a.t.Context(), prefix+"s").Result()
	ok(a.t, err)
	var got []string
	for source, id := range holders {
		got = append(got, source+" has "+id)
	}
	a.compare("the sources of "+string(key.ID), got, held)
	switch n := int64(len(pooled)); {
	case n > c.Pool.Min:
		a.note(&a.y.Doubled, "the pool of %s holds %d, and should %d", key.ID, n, c.Pool.Min)
	case n < c.Pool.Min && !a.rests(prefix):
		a.note(&a.y.Apart, "the pool of %s holds %d, and should %d", key.ID, n, c.Pool.Min)
	}
}

func (a *audited) compare(what string, got, want []string) {
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		a.note(&a.y.Apart, "%s: %v, and on record are %v", what, got, want)
	}
}

// prefix is that of the keys of a challenge.
func (l *ledger) prefix(key ctf.ChallengeKey) string {
	for _, name := range l.keys("mayfly:{*}:c") {
		id, err := l.client.HGet(l.t.Context(), name, "id").Result()
		ok(l.t, err)
		if id == string(key.ID) {
			return strings.TrimSuffix(name, "c")
		}
	}
	l.t.Fatalf("there is no challenge %s", key.ID)
	return ""
}

// rests tells whether a pool is left alone because one of its deployments failed.
func (l *ledger) rests(prefix string) bool {
	text, err := l.client.HGet(l.t.Context(), prefix+"c", "pool_rests_until").Result()
	if errors.Is(err, goredis.Nil) || text == "" {
		return false
	}
	ok(l.t, err)
	until, err := strconv.ParseFloat(text, 64)
	ok(l.t, err)
	return until > float64(time.Now().Unix())
}

// lookBehind finds what is left of instances that have no record.
func (a *audited) lookBehind() {
	recorded := map[string]bool{}
	for _, key := range a.keys("mayfly:{*}:i:*") {
		recorded[strings.Replace(key, "}:i:", "}:", 1)] = true
	}
	for _, kind := range []string{"x", "j", "l"} {
		for _, key := range a.keys("mayfly:{*}:" + kind + ":*") {
			if !recorded[strings.Replace(key, "}:"+kind+":", "}:", 1)] {
				a.note(&a.y.Apart, "%s has no record", key)
			}
		}
	}
}

// noLease is an error if somebody is at work.
func (l *ledger) noLease() error {
	if held := l.keys("mayfly:{*}:l:*"); len(held) > 0 {
		return fmt.Errorf("these leases are held: %v", held)
	}
	return nil
}

// left are the keys of challenges, without what was told and is forgotten by itself.
func (l *ledger) left() []string {
	return slices.DeleteFunc(l.keys("mayfly:{*}:*"), func(key string) bool {
		lasts, err := l.client.TTL(l.t.Context(), key).Result()
		ok(l.t, err)
		return lasts != -1 && (strings.HasSuffix(key, "}:o") || strings.Contains(key, "}:t:"))
	})
}

// keys are those in Redis that match a pattern.
func (l *ledger) keys(pattern string) []string {
	keys, err := l.client.Keys(l.t.Context(), pattern).Result()
	ok(l.t, err)
	return keys
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
