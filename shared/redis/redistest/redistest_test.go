package redistest_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

func TestStart(t *testing.T) {
	t.Parallel()
	options, err := redis.ParseURL(redistest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestClusterHoldsKeysOfEverySlot(t *testing.T) {
	t.Parallel()
	addresses := strings.TrimPrefix(redistest.Cluster(t), "redis+cluster://")
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(addresses, ",")})
	defer client.Close()
	for key := range strings.SplitSeq("abcdefghijklmnopqrstuvwxyz", "") {
		if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestartKeepsWhatWasAppended(t *testing.T) {
	t.Parallel()
	server := redistest.New(t, "--appendonly", "yes", "--appendfsync", "always")
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	if got, err := client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Fatalf("after a restart got %q, %v", got, err)
	}
}
