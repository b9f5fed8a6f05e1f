package redis_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestDueDespiteDamage: one record of a challenge can't be read. It is told of, once a
// minute, and keeps nothing else from being destroyed, of its challenge either.
func TestDueDespiteDamage(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(ctx context.Context, raw goredis.UniversalClient, record string) error{
		"damaged": func(ctx context.Context, raw goredis.UniversalClient, record string) error {
			return raw.HSet(ctx, record, "revision", "many").Err()
		},
		"newer": func(ctx context.Context, raw goredis.UniversalClient, record string) error {
			return raw.HSet(ctx, record, "schema", "9").Err()
		},
		"of another kind": func(ctx context.Context, raw goredis.UniversalClient, record string) error {
			return raw.Set(ctx, record, "text", 0).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, redistest.Start(t))
			c := newChallenge("c")
			c.Timeout, c.Until, c.Pool.Min = new(10*time.Minute), new(time.Now().Add(20*time.Minute)), 2
			e.create(t, c)
			bad := e.started(t, c.Key, "bad").Key.Identity
			well := e.started(t, c.Key, "well").Key.Identity
			badPooled, pooled := e.pooled(t, c.Key), e.pooled(t, c.Key)
			e.deploy(t, c.Key, badPooled)
			e.deploy(t, c.Key, pooled)
			saved := map[string]string{}
			for _, id := range []ctf.Identity{bad, badPooled} {
				record := e.recordOf(t, id)
				saved[record] = e.raw.Dump(t.Context(), record).Val()
				check(t, spoil(t.Context(), e.raw, record))
			}
			due := func(want ...ctf.Identity) (told string) {
				t.Helper()
				var got []ctf.Identity
				for k, err := range e.store.Due(t.Context()) {
					if err != nil {
						wantError(t, err, ctf.ErrUnreadable)
						told += err.Error()
						continue
					}
					got = append(got, k.Identity)
				}
				slices.Sort(got)
				slices.Sort(want)
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
				return told
			}
			e.store.Shift(3 * time.Minute)
			due() // the announcements, which leave dates
			e.store.Shift(8 * time.Minute)
			if told := due(well); told == "" {
				t.Error("it does not tell of what it can't read")
			}
			e.destroy(t, c.Key, well)
			if told := due(); told != "" {
				t.Errorf("it tells again at once: %s", told)
			}
			e.store.Shift(10 * time.Minute)
			if told := due(pooled); !strings.Contains(told, "and 1 more") {
				t.Errorf("it does not tell of two that it can't read: %q", told)
			}
			e.destroy(t, c.Key, pooled)

			for record, whole := range saved {
				check(t, e.raw.RestoreReplace(t.Context(), record, 0, whole).Err())
			}
			e.store.Shift(2 * time.Minute)
			if told := due(bad, badPooled); told != "" {
				t.Errorf("it tells of what is mended: %s", told)
			}
		})
	}
}
