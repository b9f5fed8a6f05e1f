package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestSentinel has Sentinel put the replica in charge: what it had is there,
// and a source that holds an instance gets no second one.
func TestSentinel(t *testing.T) {
	t.Parallel()
	watched := redistest.Sentinel(t, 1)
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	e := env{store: open(t, watched.URL, keys, 0), keys: keys, url: watched.URL}
	c := e.create(t, newChallenge("c"))
	started := e.started(t, c, alice)

	check(t, rawClient(t, watched.Primary.URL()).Do(t.Context(), "WAIT", 1, 10_000).Err()) // the replica has it all

	watched.Primary.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second) // Sentinel rests for 30 s when the machine stalls
	defer cancel()
	for {
		_, err = e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: alice})
		if ctf.ReasonOf(err) != ctf.ReasonUnavailable || ctx.Err() != nil {
			break
		}
	}
	wantReason(t, err, ctf.ReasonInstanceExists)
	found, err := e.store.Instance(ctx, c, alice)
	check(t, err)
	if found.Key != started.Key {
		t.Fatalf("after the failover %s holds %s, not %s", alice, found.Key.Identity, started.Key.Identity)
	}
}
