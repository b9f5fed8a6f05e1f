package redistest

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// Cluster starts a Redis Cluster of three nodes without replicas, waits until
// every node says that it is well, and returns its URL. The nodes are killed
// when the test ends.
func Cluster(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var addresses []string
	var clients []*redis.Client
	for range clusterNodes {
		s := New(t, "--cluster-enabled", "yes")
		client := redis.NewClient(&redis.Options{Addr: s.address()})
		t.Cleanup(func() { _ = client.Close() })
		addresses, clients = append(addresses, s.address()), append(clients, client)
	}
	for i, client := range clients {
		first, last := i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes-1
		// Without different epochs the nodes may argue about who is right.
		must(t, client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		must(t, client.ClusterAddSlotsRange(ctx, first, last).Err())
		host, port, _ := strings.Cut(addresses[0], ":")
		must(t, client.ClusterMeet(ctx, host, port).Err())
	}
	for _, client := range clients {
		waitForCluster(ctx, t, client)
	}
	return "redis+cluster://" + strings.Join(addresses, ",")
}

func waitForCluster(ctx context.Context, t testing.TB, client *redis.Client) {
	t.Helper()
	for {
		info, err := client.ClusterInfo(ctx).Result()
		must(t, err)
		if strings.Contains(info, "cluster_state:ok") &&
			strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(clusterNodes)) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the cluster does not come up: %s", info)
		case <-time.After(pollEvery):
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("start servers: %v", err)
	}
}
