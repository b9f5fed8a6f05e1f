//go:build cluster

package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestClusterOrphans takes the records of one of two instances away, in a
// namespace that a second installation uses too. While orphans are only listed
// all stays; then reconcile destroys the one, and nothing else.
func TestClusterOrphans(t *testing.T) {
	t.Parallel()
	c := clustertest.New(t)
	place := "KUBERNETES_TARGET_NAMESPACE=" + c.Namespace()
	url, keys := redistest.Start(t), "MAYFLY_KEYS="+redis.NewKey()
	start := func(env ...string) *server {
		s := newClusterServer(t, c, append([]string{place, keys, "RECONCILE=1h", "INSTANCE_HOSTNAME=games.example"}, env...)...)
		s.Start()
		return s
	}
	create := func(s *server, challenge string) {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": challenge, "scenario": pushExample(t, s, "notes")})
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": challenge, "sourceId": "1"})
	}
	other := start("REDIS_URL=" + redistest.Start(t))
	create(other, "theirs")
	listing := start("REDIS_URL="+url, "ORPHAN_LIST=true", "ORPHAN_GRACE=0s")
	create(listing, "lost")
	create(listing, "kept")
	forget(t, url, "lost")
	listing.Tick("/reconcile")
	if !strings.Contains(listing.log.String(), "is left alone") {
		t.Errorf("nothing is listed:\n%s", listing.log)
	}
	if len(c.List(kubernetes.LabelChallenge+"=lost")) == 0 {
		t.Error("what is only to be listed is gone")
	}
	listing.Stop()

	start("REDIS_URL="+url, "ORPHAN_GRACE=0s").Tick("/reconcile")
	c.WantNothing(kubernetes.LabelChallenge + "=lost")
	for _, challenge := range []string{"kept", "theirs"} {
		if len(c.List(kubernetes.LabelChallenge+"="+challenge)) == 0 {
			t.Errorf("%s is gone", challenge)
		}
	}
}
