package backup_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// TestVersions restores backups that earlier code wrote, into an empty Redis each:
// what was there when they were made is there again, to the last entry of a
// journal, but for what was in the pool, which is deleting.
//
// Never make these files anew: they stand for those that people have. A new
// version of the format, or of the records, gets files of its own beside them.
func TestVersions(t *testing.T) {
	t.Parallel()
	for file, of := range map[string]struct{ want, key string }{
		"version1.jsonl":     {"version1.txt", ""},
		"version1.jsonl.age": {"version1.txt", "backup:" + strings.Repeat("B", 43) + "="},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			keys, key := knownKey(t, "records:"+strings.Repeat("A", 43)+"="), (*redis.Keyring)(nil)
			if of.key != "" {
				key = knownKey(t, of.key)
			}
			text, err := os.ReadFile(filepath.Join("testdata", file))
			check(t, err)
			want, err := os.ReadFile(filepath.Join("testdata", of.want))
			check(t, err)
			to := newSite(t, keys)
			check(t, to.restored(t.Context(), text, key))
			if d := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(to.content(t), "\n")); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func knownKey(t testing.TB, text string) *redis.Keyring {
	t.Helper()
	k, err := redis.ParseKeys(text)
	check(t, err)
	return k
}

// content is all that a site has, in words that no change of a type changes.
func (s site) content(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	name, err := s.store.Named(t.Context())
	check(t, err)
	fmt.Fprintf(&out, "installation %s\n", name)
	challenges, err := ctf.Collect(s.store.Challenges(t.Context(), ctf.DefaultTenant))
	check(t, err)
	slices.SortFunc(challenges, func(a, b ctf.Challenge) int { return cmp.Compare(a.Key.ID, b.Key.ID) })
	for _, c := range challenges {
		fmt.Fprintf(&out, "challenge %q of %q: scenario %q %q, timeout %s, until %s, additional %q, pool %d to %d, generation %d, deleting %t\n",
			c.Key.ID, c.Key.Tenant, c.Scenario.Reference, c.Scenario.Digest, optional(c.Timeout), moment(c.Until), told(c.Additional),
			c.Pool.Min, c.Pool.Max, c.Generation, c.Deleting)
		entries, err := ctf.Collect(s.store.All(t.Context(), c.Key))
		check(t, err)
		slices.SortFunc(entries, func(a, b ctf.AuditEntry) int {
			return cmp.Compare(a.Instance.Key.Identity, b.Instance.Key.Identity)
		})
		for _, e := range entries {
			s.describe(t, &out, e.Instance)
		}
	}
	return out.String()
}

func (s site) describe(t testing.TB, out *strings.Builder, i ctf.Instance) {
	t.Helper()
	fmt.Fprintf(out, "\tinstance %s of %q: %s, since %s, renewed %s, until %s, info %q, flags %q, additional %q, generation %d, scenario %q %q, strategy %q, replaces %q, failure %q\n",
		i.Key.Identity, i.Source, i.State, moment(&i.Since), moment(&i.LastRenew), moment(i.Until), i.ConnectionInfo, i.Flags, told(i.Additional),
		i.Generation, i.Scenario.Reference, i.Scenario.Digest, i.Strategy, i.Replaces, i.Failure)
	l, err := s.store.Lease(t.Context(), i.Key)
	check(t, err)
	defer l.Release()
	w, err := l.Load(t.Context())
	check(t, err)
	fmt.Fprintf(out, "\t\tbase %q, journal %q\n", w.Checkpoint.Base, w.Checkpoint.Journal)
}

func told(additional map[string]string) []string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(additional)) {
		pairs = append(pairs, name+"="+additional[name])
	}
	return pairs
}

func optional(d *time.Duration) string {
	if d == nil {
		return "none"
	}
	return d.String()
}

func moment(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return at.UTC().Format(time.RFC3339Nano)
}
