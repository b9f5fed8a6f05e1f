//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// settled is how long the cluster may take to collect what was owned by what
// was deleted.
const settled = time.Minute

// audit compares what callers were told with what is recorded, and that with
// what is there.
func (f *stories) audit(t *testing.T) {
	t.Helper()
	store, raw := f.redis(t)
	key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(f.challenge)}
	recorded := map[string]bool{}
	for entry, err := range store.All(t.Context(), key) {
		check(t, err)
		i := entry.Instance
		recorded[string(i.Key.Identity)] = true
		told := f.told[string(i.Source)]
		switch {
		case i.State != ctf.Ready || entry.Leased:
			t.Errorf("%s of %s is %s, leased: %v: %s", i.Key.Identity, i.Source, i.State, entry.Leased, i.Failure)
		case told == nil:
			t.Errorf("%s of %s was deleted, and is recorded", i.Key.Identity, i.Source)
		case told.GetConnectionInfo() != i.ConnectionInfo:
			t.Errorf("%s was told of %q and has %q", i.Source, told.GetConnectionInfo(), i.ConnectionInfo)
		}
	}
	if len(recorded) != len(f.told) {
		t.Errorf("%d callers were told of an instance that stays, %d are recorded", len(f.told), len(recorded))
	}
	wantNoKeys(t, strays(t, raw, recorded))
	clustertest.Eventually(t, settled, "records and objects agree", func() error { return f.agree(t, f.challenge, recorded) })
}

// strays are the leases, and all other keys that belong to an instance that has
// no record.
func strays(t *testing.T, raw *goredis.Client, recorded map[string]bool) []string {
	t.Helper()
	keys, err := raw.Keys(t.Context(), "mayfly:{*}:[ijlx]:*").Result() // of one instance each
	check(t, err)
	return slices.DeleteFunc(keys, func(name string) bool {
		kind, identity, _ := strings.Cut(name[strings.Index(name, "}:")+2:], ":")
		return kind != "l" && recorded[identity]
	})
}

// agree returns an error unless each recorded instance of a challenge has all of
// its objects, and nothing else is there.
func (i *installation) agree(t *testing.T, challenge string, recorded map[string]bool) error {
	t.Helper()
	lost, unrecorded := i.compare(t, challenge, recorded)
	if len(lost)+len(unrecorded) > 0 {
		return errors.New(strings.Join(append(lost, unrecorded...), "\n"))
	}
	return nil
}

// compare says which recorded instances of a challenge lack objects, and what is
// there without a record.
func (i *installation) compare(t *testing.T, challenge string, recorded map[string]bool) (lost, unrecorded []string) {
	t.Helper()
	found := i.objects(t, challenge)
	for identity := range recorded {
		if found[identity] != objectsOfCards {
			lost = append(lost, fmt.Sprintf("%s has %d objects", identity, found[identity]))
		}
		delete(found, identity)
	}
	for identity, objects := range found {
		unrecorded = append(unrecorded, fmt.Sprintf("%d objects of %s have no record", objects, identity))
	}
	return lost, unrecorded
}

func wantNoKeys(t *testing.T, left []string) {
	t.Helper()
	if len(left) > 0 {
		t.Errorf("%d keys are left in Redis: %v", len(left), left[:min(len(left), 20)])
	}
}

// leave deletes what stayed, and nothing is left: no object and no record.
func (f *stories) leave(ctx context.Context, t *testing.T) {
	t.Helper()
	challenges, instances := f.clients(t, "gateway")
	for _, told := range f.told {
		check(t, f.look(ctx, instances, told))
	}
	_, err := challenges.DeleteChallenge(ctx, &challengev1.DeleteChallengeRequest{Id: f.challenge})
	check(t, err)
	clustertest.Eventually(t, settled, "no object is left", func() error { return f.agree(t, f.challenge, nil) })
	_, raw := f.redis(t)
	wantNoKeys(t, keysOfChallenges(t, raw))
}

// keysOfChallenges are those in Redis that go with their challenge.
func keysOfChallenges(t *testing.T, raw *goredis.Client) []string {
	t.Helper()
	keys, err := raw.Keys(t.Context(), "mayfly:{*}:*").Result()
	check(t, err)
	stays := regexp.MustCompile(`\}:(o$|t:)`) // for an hour, or a minute
	return slices.DeleteFunc(keys, stays.MatchString)
}
