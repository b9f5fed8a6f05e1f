package reconcile

import (
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// spoil makes a record of this field and value newer than this code.
func (s *site) spoil(field, value string) {
	s.t.Helper()
	options, err := goredis.ParseURL(s.url)
	check(s.t, err)
	raw := goredis.NewClient(options)
	defer func() { _ = raw.Close() }()
	for _, key := range raw.Keys(s.t.Context(), "mayfly:{*").Val() {
		if (strings.HasSuffix(key, ":c") || strings.Contains(key, ":i:")) && raw.HGet(s.t.Context(), key, field).Val() == value {
			check(s.t, raw.HSet(s.t.Context(), key, "schema", "9").Err())
			return
		}
	}
	s.t.Fatalf("no record has the %s %s", field, value)
}

// A challenge and an instance that can't be read keep no other from being settled,
// and are told of.
func TestUnreadableRecords(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Millisecond)
	s.budget = within // one round is to do it all
	check(t, s.store.CreateChallenge(t.Context(), ctf.Challenge{
		Key: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "newer"}, Scenario: ctf.Scenario{Digest: "one"},
	}))
	s.spoil("id", "newer")
	s.spoil("source", "7")
	for name, err := range map[string]error{
		"a tick":   s.Handle(t.Context()),
		"an event": s.GoOn(t.Context(), ctf.Event{Challenge: s.key, At: time.Now().Add(time.Hour)}),
	} {
		if !errors.Is(err, ctf.ErrUnreadable) {
			t.Errorf("%s ends with %v, want to be told of what can't be read", name, err)
		}
	}
	ready := 0
	for entry, err := range s.store.All(t.Context(), s.key) {
		if err == nil && entry.Instance.State == ctf.Ready {
			ready++
		}
	}
	if ready != many-1 {
		t.Errorf("%d are ready, want %d", ready, many-1)
	}
}
