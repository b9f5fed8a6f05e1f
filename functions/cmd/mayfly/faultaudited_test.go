//go:build faults

package main_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// TestFaultsAudit does by hand what the audit is to find, one harm after another:
// it finds each of them, in these columns and no others.
func TestFaultsAudit(t *testing.T) {
	f := newFaultSite(t, fault{}, 1)
	for _, source := range []string{"one", "two"} {
		f.servers[0].Must(http.MethodPost, "/instance", map[string]any{"challengeId": f.challenges[0], "sourceId": source})
	}
	var y faults.Tally
	eventually(t, "all agrees", func() error {
		var found []error
		for _, each := range f.flaws(&y) {
			found = append(found, errors.New(each.what))
		}
		return errors.Join(found...)
	})
	f.servers[0].Kill() // nobody mends anything
	plain := f.prefix(ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(f.challenges[0])})
	pooled := f.prefix(ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(f.challenges[1])})
	ids, err := f.client.HGetAll(t.Context(), plain+"s").Result()
	ok(t, err)
	one, two := ids["one"], ids["two"]
	whole := f.dump()
	journal := func(write func(context.Context, ctf.Journal) error) func() {
		return func() {
			key := ctf.InstanceKey{Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(f.challenges[0])}, Identity: ctf.Identity(one)}
			lease, err := f.store.Lease(t.Context(), key)
			ok(t, err)
			defer lease.Release()
			ok(t, write(t.Context(), lease.Journal(ctf.Ready)))
		}
	}
	command := func(words ...any) func() { return func() { f.redis(words...) } }
	columns := map[*int]string{
		&y.Lost: "lost", &y.Doubled: "doubled", &y.Unrecorded: "unrecorded", &y.Apart: "apart", &y.Stuck: "stuck",
	}
	for _, harm := range []struct {
		what string
		do   func()
		want []string
	}{
		{"nothing", func() {}, nil},
		{"a lease is left", command("SET", plain+"l:"+one, "x"), []string{"stuck"}},
		{"a lease has no record", command("SET", plain+"l:x", "x"), []string{"apart"}},
		{"a checkpoint has no record", command("SET", plain+"x:x", "x"), []string{"apart"}},
		{"a journal has no record", command("RPUSH", plain+"j:x", "x"), []string{"apart"}},
		{"a journal has an entry more", journal(func(ctx context.Context, j ctf.Journal) error { return j.Append(ctx, []byte("{}")) }), []string{"apart"}},
		{"a checkpoint knows nothing", journal(func(ctx context.Context, j ctf.Journal) error { return j.Rebase(ctx, nil) }), []string{"apart"}},
		{"an instance is not recorded", command("DEL", plain+"i:"+one), []string{"apart", "unrecorded"}},
		{"an instance is in no list", command("SREM", plain+"i", one), []string{"apart", "unrecorded"}},
		{"an instance has failed", command("HSET", plain+"i:"+one, "state", "failed"), []string{"apart", "stuck"}}, // no query shows it
		{"an instance has missed an update", command("HINCRBY", plain+"c", "generation", 1), []string{"stuck"}},
		{"a source has two", command("HSET", plain+"i:"+one, "source", "two"), []string{"apart", "doubled"}},
		{"a source has what is another's", command("HSET", plain+"s", "one", two), []string{"apart"}},
		{"a source has what is not there", command("HSET", plain+"s", "three", "x"), []string{"apart"}},
		{"a source is not found", func() { f.redis("DEL", f.keys("mayfly:source:*")[0]) }, []string{"apart"}},
		{"an end is not announced", command("DEL", "mayfly:due"), []string{"apart"}},
		{"a challenge is in no list", command("HDEL", "mayfly:challenges:"+string(ctf.DefaultTenant), f.challenges[0]), []string{"apart"}},
		{"a pool can't be claimed", command("DEL", pooled+"p"), []string{"apart"}},
		{"a pool does not count", command("DEL", pooled+"q"), []string{"apart"}},
		{"a pool is too small", command("HSET", pooled+"c", "min", 2), []string{"apart"}},
		{"a pool is too big", command("HSET", pooled+"c", "min", 0), []string{"doubled"}},
		{"something is to be deleted", command("ZADD", plain+"d", 1, one), []string{"apart"}},
		{"an instance runs twice", func() { f.run(one) }, []string{"apart", "doubled"}}, // one of the two is in no checkpoint
		{"something runs without a record", func() { f.run("x") }, []string{"unrecorded"}},
		{"an instance does not run", func() { f.end(one) }, []string{"apart", "lost"}}, // its checkpoint knows what is gone
	} {
		t.Run(harm.what, func(t *testing.T) {
			f.t = t
			harm.do()
			found := map[string]bool{}
			all := f.flaws(&y)
			for _, each := range all {
				found[columns[each.column]] = true
			}
			if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, harm.want) {
				t.Errorf("found is %v, want %v: %v", got, harm.want, all)
			}
			f.restore(whole)
		})
	}
}

// dump is all that Redis has, and restore has it have that alone.
func (f *faultSite) dump() map[string]string {
	all := map[string]string{}
	for _, name := range f.keys("*") {
		value, err := f.client.Dump(f.t.Context(), name).Result()
		ok(f.t, err)
		all[name] = value
	}
	return all
}

func (f *faultSite) restore(all map[string]string) {
	f.redis("FLUSHDB")
	for name, value := range all {
		ok(f.t, f.client.Restore(f.t.Context(), name, 0, value).Err())
	}
}

// run has one process more run where those of an instance do, until its test ends.
func (f *faultSite) run(identity string) {
	dir := filepath.Join(f.servers[0].Dir, "data", "instances", identity)
	ok(f.t, os.MkdirAll(dir, 0o700))
	cmd := exec.CommandContext(f.t.Context(), "sleep", "600")
	cmd.Dir = dir
	ok(f.t, cmd.Start())
	f.t.Cleanup(func() { _ = cmd.Wait() })
}

// end ends what runs of an instance.
func (f *faultSite) end(identity string) {
	for _, part := range f.running()[identity] {
		pid, err := strconv.Atoi(part)
		ok(f.t, err)
		ok(f.t, syscall.Kill(pid, syscall.SIGKILL))
	}
	eventually(f.t, "it ends", func() error {
		if left := f.running()[identity]; len(left) > 0 {
			return errors.New("it runs")
		}
		return nil
	})
}
