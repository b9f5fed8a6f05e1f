package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// A killSite is a Mayfly that does nothing by itself, and is killed.
type killSite struct {
	ledger

	server   *server
	wire     *link
	scenario ctf.Scenario
	// earlier goes by a clock that is late, so that what it writes is old.
	earlier *redis.Store
	// pooled is what was in the pools, and renewed when instances end, as their
	// sources were told.
	pooled  map[string]ctf.Identity
	renewed map[string]time.Time
}

// newKillSite has instances be processes, or nothing at all.
func newKillSite(t *testing.T, processes bool) *killSite {
	t.Helper()
	keys := redis.NewKey()
	url := redistest.Start(t)
	images, err := registry.New(t.Context(), t.TempDir())
	ok(t, err)
	at := httptest.NewServer(images)
	t.Cleanup(at.Close)
	k := &killSite{
		wire: newLink(t, strings.TrimPrefix(url, "redis://")), earlier: openStore(t, url, keys),
		pooled: map[string]ctf.Identity{}, renewed: map[string]time.Time{},
	}
	k.ledger = ledger{t: t, store: openStore(t, url, keys), client: openRedis(t, url)}
	k.earlier.Shift(-time.Minute)
	k.server = newServer(t, "LOG_LEVEL=warn", "TICK=0", "RECONCILE=0", "LOST=show", "OCI_INSECURE=true",
		"REDIS_URL=redis://"+k.wire.address, "MAYFLY_KEYS="+keys)
	k.wire.kill, k.running = k.server.Kill, k.server.parts
	k.server.Start()
	files := bareFiles
	if processes {
		files, k.parts = serviceFiles, 1
	}
	reference := pushTo(t, strings.TrimPrefix(at.URL, "http://"), "scenario:1", files(t))
	k.server.Must(http.MethodPost, "/challenge", map[string]any{"id": "first", "scenario": reference})
	first, err := k.store.Challenge(t.Context(), challengeKey("first"))
	ok(t, err)
	k.scenario = first.Scenario
	k.server.Must(http.MethodDelete, "/challenge/first", nil)
	return k
}

func challengeKey(id string) ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)}
}

// register records a challenge, for which no scenario has to be run.
func (k *killSite) register(store *redis.Store, id string, what sweep) {
	c := ctf.Challenge{Key: challengeKey(id), Scenario: k.scenario, Pool: ctf.Pool{Min: what.pool}}
	if what.timeout > 0 {
		c.Timeout = &what.timeout
	}
	ok(k.t, store.CreateChallenge(k.t.Context(), c))
}

// runOut ends the leases of who is dead.
func (k *killSite) runOut() {
	for _, lease := range k.keys("mayfly:{*}:l:*") {
		ok(k.t, k.client.Del(k.t.Context(), lease).Err())
	}
}

// rests is an error if something of a challenge is to be done or told.
func (k *killSite) rests(id string) error {
	told, _, err := k.store.Pending(k.t.Context(), challengeKey(id), "")
	ok(k.t, err)
	if len(told) > 0 {
		return fmt.Errorf("%d events are to be published", len(told))
	}
	for entry, err := range k.store.All(k.t.Context(), challengeKey(id)) {
		ok(k.t, err)
		if entry.Leased || entry.Instance.State != ctf.Ready {
			return fmt.Errorf("%s is %s, leased: %v", entry.Instance.Key.Identity, entry.Instance.State, entry.Leased)
		}
	}
	return nil
}

func (k *killSite) await(id string) {
	eventually(k.t, "all is done", func() error { return k.rests(id) })
}

// What they are about.

// hold has a source hold an instance.
func (k *killSite) hold(id string) {
	answer, err := k.create(id)
	ok(k.t, err)
	if answer.Status != http.StatusOK {
		k.t.Fatalf("%d %s", answer.Status, answer.Raw)
	}
	k.await(id)
}

// fill has the pool be full.
func (k *killSite) fill(id string) {
	_, err := k.askToFill(id)
	ok(k.t, err)
	k.await(id)
	for entry, err := range k.store.All(k.t.Context(), challengeKey(id)) {
		ok(k.t, err)
		k.pooled[id] = entry.Instance.Key.Identity
	}
}

// outlive has a source hold an instance that has ended.
func (k *killSite) outlive(id string) {
	k.hold(id)
	eventually(k.t, "it ends", func() error {
		if answer := k.server.try(k.t, http.MethodGet, "/instance/"+id+"/"+team, nil); answer.Status != http.StatusNotFound {
			return errors.New(answer.Raw)
		}
		return nil
	})
}

// interrupt leaves one of each kind of work to which nobody comes: to update, to
// deploy, to destroy, a pool to fill, and another challenge to remove.
func (k *killSite) interrupt(id string) {
	ctx, key := k.t.Context(), challengeKey(id)
	k.register(k.earlier, id+"-gone", sweep{})
	for _, of := range []string{id, id + "-gone"} {
		k.hold(of)
	}
	reserve := func(source ctf.SourceID) {
		_, err := k.earlier.Reserve(ctx, ctf.ReserveRequest{Challenge: key, Source: source, Additional: map[string]string{"own": "settings"}})
		ok(k.t, err)
	}
	reserve("deleted")
	_, err := k.earlier.UpdateChallenge(ctx, key, ctf.ChallengeChange{
		SetAdditional: true, Additional: map[string]string{"round": "2"}, Strategy: ctf.InPlace,
	})
	ok(k.t, err)
	reserve("created")
	_, _, err = k.earlier.DeleteInstance(ctx, key, "deleted")
	ok(k.t, err)
	_, _, err = k.earlier.DeleteChallenge(ctx, challengeKey(id+"-gone"))
	ok(k.t, err)
}

// What comes of them.

func (k *killSite) want(path string, status int) reply {
	k.t.Helper()
	answer := k.server.try(k.t, http.MethodGet, path, nil)
	if answer.Status != status {
		k.t.Errorf("%s: %d %s", path, answer.Status, answer.Raw)
	}
	return answer
}

func (k *killSite) wantDeleted(id string, done bool) {
	if done {
		k.want("/instance/"+id+"/"+team, http.StatusNotFound)
	}
}

func (k *killSite) wantRenewed(id string, _ bool) {
	if until, _ := untilOf(k.want("/instance/"+id+"/"+team, http.StatusOK)); until.Before(k.renewed[id]) {
		k.t.Errorf("%s ends at %v, after it was told of %v", id, until, k.renewed[id])
	}
}

func (k *killSite) wantClaimed(id string, done bool) {
	if !done {
		return
	}
	held, err := k.store.Instance(k.t.Context(), challengeKey(id), team)
	ok(k.t, err)
	if held.Key.Identity != k.pooled[id] {
		k.t.Errorf("of %s %s is held, and in the pool was %s", id, held.Key.Identity, k.pooled[id])
	}
}

func (k *killSite) wantChallenge(id string, done bool) {
	if done {
		k.want("/challenge/"+id, http.StatusOK)
	}
}

func (k *killSite) wantNoChallenge(id string, done bool) {
	if done {
		k.want("/challenge/"+id, http.StatusNotFound)
	}
}

func (k *killSite) wantEnded(id string, _ bool) {
	for entry, err := range k.store.All(k.t.Context(), challengeKey(id)) {
		ok(k.t, err)
		k.t.Errorf("%s of %s is left after its end", entry.Instance.Key.Identity, id)
	}
}

func (k *killSite) wantUpdated(id string, done bool) {
	c, err := k.store.Challenge(k.t.Context(), challengeKey(id))
	ok(k.t, err)
	if c.Generation > 2 || done && c.Generation < 2 {
		k.t.Errorf("%s is of generation %d", id, c.Generation)
	}
	held := 0
	for entry, err := range k.store.All(k.t.Context(), c.Key) {
		ok(k.t, err)
		i := entry.Instance
		if i.Source == "" || i.State == ctf.Deleting { // nobody waits for these
			continue
		}
		held++
		if i.State != ctf.Ready || i.Generation != c.Generation || i.Failure != "" {
			k.t.Errorf("%s of %s is %s, of generation %d, and that of %d: %s", i.Source, id, i.State, i.Generation, c.Generation, i.Failure)
		}
	}
	if held == 0 {
		k.t.Errorf("of %s nothing is held", id)
	}
}

func (k *killSite) wantReconciled(id string, _ bool) {
	k.wantUpdated(id, true)
	k.want("/instance/"+id+"/created", http.StatusOK)
	k.want("/instance/"+id+"/deleted", http.StatusNotFound)
	k.want("/challenge/"+id+"-gone", http.StatusNotFound)
}

// untilOf is when an instance ends by an answer.
func untilOf(answer reply) (until time.Time, told bool) {
	var instance struct{ Until time.Time }
	if json.Unmarshal([]byte(answer.Raw), &instance) != nil { // a stream, or nothing
		return until, false
	}
	return instance.Until, !instance.Until.IsZero()
}

// wake has a server do what a tick asks for, and waits for it.
func wake(ctx context.Context, s *server, function string) error {
	sender, err := cloudevents.NewClientHTTP()
	if err != nil {
		return err
	}
	tick := cloudevents.NewEvent()
	tick.SetID(fmt.Sprint(time.Now().UnixNano()))
	tick.SetSource("/faults")
	tick.SetType(events.TickType)
	return events.Send(ctx, sender, s.URL+"/"+function, tick)
}
