package redistest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Watched is a server with a replica that Sentinel promotes when the server
// is away.
type Watched struct {
	// URL finds whichever of the two is in charge.
	URL string
	// Primary is the server that is in charge at first.
	Primary *Server
}

// Sentinel starts a server, a replica of it, and one Sentinel that watches
// them and needs no second opinion. It returns once the replica is in step.
func Sentinel(t testing.TB) Watched {
	t.Helper()
	primary := New(t)
	New(t, "--replicaof", "127.0.0.1", strconv.Itoa(primary.port))
	config := filepath.Join(t.TempDir(), "sentinel.conf") // Sentinel keeps its state in it
	must(t, os.WriteFile(config, []byte(strings.Join([]string{
		"sentinel monitor store 127.0.0.1 " + strconv.Itoa(primary.port) + " 1",
		"sentinel down-after-milliseconds store 2000",
		"sentinel failover-timeout store 3000",
	}, "\n")), 0o600))
	sentinel := New(t, config, "--sentinel")
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.address()})
	defer func() { _ = client.Close() }()
	for {
		replicas, err := client.Replicas(ctx, "store").Result()
		must(t, err)
		if len(replicas) == 1 && replicas[0]["master-link-status"] == "ok" {
			return Watched{URL: "redis+sentinel://" + sentinel.address() + "?master_name=store", Primary: primary}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the replica does not get in step: %v", replicas)
		case <-time.After(pollEvery):
		}
	}
}
