package redistest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Watched is a server with replicas, one of which Sentinel promotes when the
// server is away.
type Watched struct {
	// URL finds whichever of them is in charge.
	URL string
	// Primary is the server that is in charge at first.
	Primary  *Server
	Replicas []*Server
}

// Sentinel starts a server, replicas of it, all with the same arguments, and one
// Sentinel that watches them and needs no second opinion. It returns once all
// replicas are in step and Sentinel knows them.
func Sentinel(t testing.TB, replicas int, args ...string) Watched {
	t.Helper()
	primary := New(t, args...)
	w := Watched{Primary: primary}
	for range replicas {
		w.Replicas = append(w.Replicas, primary.Replica(args...))
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf") // Sentinel keeps its state in it
	must(t, os.WriteFile(config, []byte(strings.Join([]string{
		"sentinel monitor store 127.0.0.1 " + strconv.Itoa(primary.port) + " 1",
		"sentinel down-after-milliseconds store 2000",
		"sentinel failover-timeout store 3000",
	}, "\n")), 0o600))
	sentinel := New(t, config, "--sentinel")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sentinel: %s", sentinel.log())
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.address()})
	defer func() { _ = client.Close() }()
	for {
		known, err := client.Replicas(ctx, "store").Result()
		must(t, err)
		known = slices.DeleteFunc(known, func(r map[string]string) bool { return r["master-link-status"] != "ok" })
		if len(known) == replicas {
			w.URL = "redis+sentinel://" + sentinel.address() + "?master_name=store"
			return w
		}
		select {
		case <-ctx.Done():
			t.Fatalf("of %d replicas Sentinel knows %v", replicas, known)
		case <-time.After(pollEvery):
		}
	}
}
