package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestOrphans takes the records of an instance away. What it runs is left
// alone within the grace period, and while orphans are only listed; after it,
// reconcile destroys it, and nothing else.
func TestOrphans(t *testing.T) {
	for name, c := range map[string]struct {
		setting   string
		destroyed bool
		logged    string
	}{
		"young":       {"ORPHAN_GRACE=1h", false, "will be destroyed"},
		"old":         {"ORPHAN_GRACE=0s", true, "is destroyed"},
		"only listed": {"ORPHAN_LIST=true", false, "is left alone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := redistest.Start(t)
			s := newServer(t, "REDIS_URL="+url, "RECONCILE=1h", c.setting)
			s.Start()
			reference := pushService(t, s, "service:1")
			addresses := map[string]string{}
			for _, id := range []string{"lost", "kept"} {
				s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": reference})
				addresses[id] = s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": "1"}).ConnectionInfo
			}
			forget(t, url, "lost")
			s.Tick("/reconcile")

			answers(t, addresses["kept"])
			want := 2
			if c.destroyed {
				want = 1
			} else {
				answers(t, addresses["lost"])
			}
			if got := len(s.processes()); got != want {
				t.Errorf("%d instances run, want %d", got, want)
			}
			eventually(t, "what is found is in the log", func() error {
				if !strings.Contains(s.log.String(), c.logged) {
					return errors.New(s.log.String())
				}
				return nil
			})
		})
	}
}

// forget removes all records of a challenge from Redis.
func forget(t *testing.T, url, challenge string) {
	t.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	for _, key := range client.Keys(t.Context(), "mayfly:{*:c").Val() {
		if client.HGet(t.Context(), key, "id").Val() != challenge {
			continue
		}
		of := client.Keys(t.Context(), strings.ReplaceAll(strings.TrimSuffix(key, "c")+"*", "{", "[{]")).Val()
		if err := client.Del(t.Context(), of...).Err(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal(fmt.Errorf("no challenge %s", challenge))
}
