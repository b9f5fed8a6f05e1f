package redis_test

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestWritesRefused has a Redis refuse what writes: one that has too few replicas,
// and one that is a replica itself by now. Each step that would write says that
// the store is unavailable, and has changed nothing.
func TestWritesRefused(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(context.Context, goredis.UniversalClient) error{
		"too few replicas": func(ctx context.Context, raw goredis.UniversalClient) error {
			return raw.ConfigSet(ctx, "min-replicas-to-write", "1").Err()
		},
		"a replica": func(ctx context.Context, raw goredis.UniversalClient) error {
			return raw.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t, newEnv(t, redistest.Start(t)))
			if name == "too few replicas" && strings.HasPrefix(version(t, c.raw), "6.") {
				t.Skip("before Redis 7 scripts write all the same")
			}
			check(t, refuse(t.Context(), c.raw))
			before, steps := c.content(t), c.steps()
			steps["create challenge"] = func(ctx context.Context) error { return c.store.CreateChallenge(ctx, newChallenge("other")) }
			steps["name"] = func(ctx context.Context) error { _, err := c.store.Installation(ctx); return err }
			steps["lease"] = func(ctx context.Context) error {
				_, err := c.store.Lease(ctx, ctf.InstanceKey{Challenge: c.key, Identity: c.names["pooled"]})
				return err
			}
			steps["restore"] = func(ctx context.Context) error {
				return c.store.RestoreInstances(ctx, key("other"), collect(t, c.store.Snapshots(ctx))[0].Instances)
			}
			var group sync.WaitGroup
			for step, take := range steps {
				group.Go(func() {
					err := take(t.Context())
					idle := step == "expire" || step == "fill pool" || ctf.ReasonOf(err) == ctf.ReasonInstanceNotFound ||
						strings.HasPrefix(step, "disown ") && step != "disown deleting"
					if ctf.ReasonOf(err) != ctf.ReasonUnavailable && !idle { // which has nothing to write
						t.Errorf("%s: %v, want unavailable", step, err)
					}
				})
			}
			group.Wait()
			if now := c.content(t); !maps.Equal(now, before) {
				t.Errorf("something is written: %v", changes(before, now))
			}
		})
	}
}

func version(t *testing.T, raw goredis.UniversalClient) string {
	t.Helper()
	info, err := raw.Info(t.Context(), "server").Result()
	check(t, err)
	_, after, _ := strings.Cut(info, "redis_version:")
	v, _, _ := strings.Cut(after, "\r")
	return v
}
