package redis_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const (
	tenant  = ctf.DefaultTenant
	patient = 20 * time.Second
)

// suite are the tests that every kind of Redis must pass.
func suite() map[string]func(*testing.T, env) {
	return map[string]func(*testing.T, env){
		"story":                       testStory,
		"pool rule":                   testPoolRule,
		"surplus prefers pending":     testSurplusPrefersPending,
		"failed pool rests":           testFailedPoolRests,
		"one of many reserves":        testOneOfManyReserves,
		"claims never share":          testClaimsNeverShare,
		"idempotency key":             testIdempotencyKey,
		"ready only":                  testReadyOnly,
		"old holder is refused":       testOldHolderIsRefused,
		"lease is taken again":        testLeaseIsTakenAgainWhenNobodyElseDid,
		"lease waits for the holder":  testLeaseWaitsForTheHolder,
		"lease of nothing":            testLeaseOfNothing,
		"delete ends the work":        testDeleteEndsTheHoldersWork,
		"checkpoint":                  testCheckpoint,
		"script flush":                testScriptFlush,
		"hostile ids":                 testHostileIDs,
		"nothing is left":             testNothingIsLeft,
		"restore":                     testRestore,
		"restore into use":            testRestoreIntoUse,
		"restore empties the pool":    testRestoreEmptiesThePool,
		"secrets are sealed":          testSecretsAreSealed,
		"key rotation":                testKeyRotation,
		"newer schema is refused":     testNewerSchemaIsRefused,
		"unreadable challenges":       testUnreadableChallenges,
		"unreadable instances":        testUnreadableInstances,
		"unknown fields survive":      testUnknownFieldsSurvive,
		"due at the end":              testDueAtTheEnd,
		"due soon is exact":           testDueSoonIsExact,
		"due after renew":             testDueAfterRenew,
		"due after shortening":        testDueAfterShortening,
		"source without instances":    testSourceWithoutInstances,
		"due pool":                    testDuePoolEndsWithItsChallenge,
		"due when the destroyer died": testDueWhenTheDestroyerDied,
		"busy source is looked at":    testBusySourceIsLookedAt,
		"due pages":                   testDuePages,
		"one bad challenge":           testOneBadChallengeDoesNotBlock,
		"recorded":                    testRecorded,
		"installation":                testInstallation,
		"repair indexes":              testRepairIndexes,
		"many pages":                  testManyPages,
		"any order":                   testAnyOrder,
		"blue-green keeps the terms":  testBlueGreenKeepsTheTerms,
		"failed replacement":          testFailedReplacementIsMadeAnew,
		"claim with additional":       testClaimWithAdditional,
		"update renews":               testUpdateRenews,
		"equal digest":                testEqualDigestStoresTheReference,
		"failed delete":               testFailedDeleteIsTakenUpByTheNext,
		"failure after a delete":      testFailureAfterADelete,
		"failed update":               testFailedUpdateIsTakenUpByTheNext,
		"events":                      testEvents,
		"dates come back":             testDatesComeBackToTheDigit,
	}
}

// An env is a store on an empty Redis.
type env struct {
	store *redis.Store
	keys  *redis.Keyring
	url   string
	raw   goredis.UniversalClient
}

func TestOnServer(t *testing.T) {
	t.Parallel()
	for name, test := range suite() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newEnv(t, redistest.Start(t)))
		})
	}
}

func TestOnCluster(t *testing.T) {
	t.Parallel()
	url := redistest.Cluster(t)
	for name, test := range suite() {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, url)
			err := e.raw.(*goredis.ClusterClient).ForEachMaster(t.Context(), func(ctx context.Context, c *goredis.Client) error {
				return c.FlushAll(ctx).Err()
			})
			check(t, err)
			test(t, e)
		})
	}
}

func newEnv(t testing.TB, url string) env {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	e := env{keys: keys, url: url, store: open(t, url, keys, 0), raw: rawClient(t, url)}
	return e
}

func open(t testing.TB, url string, keys *redis.Keyring, ttl time.Duration) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Options{URL: url, Keys: keys, LeaseTTL: ttl})
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// rawClient sees what Redis really holds.
func rawClient(t testing.TB, url string) goredis.UniversalClient {
	t.Helper()
	scheme, hosts, _ := strings.Cut(url, "://")
	addresses := strings.Split(hosts, ",")
	o := &goredis.UniversalOptions{Addrs: addresses, IsClusterMode: strings.HasSuffix(scheme, "cluster")}
	c := goredis.NewUniversalClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantReason(t testing.TB, err error, reason ctf.Reason) {
	t.Helper()
	if got := ctf.ReasonOf(err); got != reason {
		t.Fatalf("got error %v, want reason %q", err, reason)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func key(id string) ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: tenant, ID: ctf.ChallengeID(id)}
}

// newChallenge is what create makes unless the test changes it.
func newChallenge(id string) ctf.Challenge {
	return ctf.Challenge{Key: key(id), Scenario: ctf.Scenario{Reference: "registry/s:1", Digest: "sha256:1"}}
}

func (e env) create(t testing.TB, c ctf.Challenge) ctf.ChallengeKey {
	t.Helper()
	check(t, e.store.CreateChallenge(t.Context(), c))
	return c.Key
}

func (e env) reserve(t testing.TB, c ctf.ChallengeKey, source ctf.SourceID) ctf.Reservation {
	t.Helper()
	r, err := e.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c, Source: source})
	check(t, err)
	return r
}

func (e env) lease(t testing.TB, c ctf.ChallengeKey, id ctf.Identity) ctf.Lease {
	t.Helper()
	l, err := e.store.Lease(t.Context(), ctf.InstanceKey{Challenge: c, Identity: id})
	check(t, err)
	t.Cleanup(l.Release)
	return l
}

func result(id ctf.Identity) ctf.Result {
	return ctf.Result{ConnectionInfo: "nc host " + string(id), Flags: []string{"FLAG{" + string(id) + "}"}, Base: []byte("base of " + id)}
}

// deploy does what a function does with a pending or updating instance.
func (e env) deploy(t testing.TB, c ctf.ChallengeKey, id ctf.Identity) ctf.Instance {
	t.Helper()
	l := e.lease(t, c, id)
	defer l.Release()
	w, err := l.Load(t.Context())
	check(t, err)
	i, err := l.Deployed(t.Context(), w, result(id))
	check(t, err)
	return i
}

// started is an instance that a source has, ready.
func (e env) started(t testing.TB, c ctf.ChallengeKey, source ctf.SourceID) ctf.Instance {
	t.Helper()
	return e.deploy(t, c, e.reserve(t, c, source).Instance.Key.Identity)
}

func (e env) pooled(t testing.TB, c ctf.ChallengeKey) ctf.Identity {
	t.Helper()
	id, ok, err := e.store.ReservePooled(t.Context(), c)
	check(t, err)
	if !ok {
		t.Fatal("the pool wants no more")
	}
	return id
}

func (e env) destroy(t testing.TB, c ctf.ChallengeKey, id ctf.Identity) {
	t.Helper()
	l := e.lease(t, c, id)
	defer l.Release()
	_, err := l.Load(t.Context())
	check(t, err)
	check(t, l.Forget(t.Context()))
}

func (e env) update(t testing.TB, c ctf.ChallengeKey, change ctf.ChallengeChange) ctf.ChallengeUpdate {
	t.Helper()
	u, err := e.store.UpdateChallenge(t.Context(), c, change)
	check(t, err)
	return u
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		check(t, err)
		all = append(all, v)
	}
	return all
}

// find returns the record of an instance as reconcile sees it.
func (e env) find(t testing.TB, c ctf.ChallengeKey, id ctf.Identity) (ctf.Instance, bool) {
	t.Helper()
	for _, entry := range collect(t, e.store.All(t.Context(), c)) {
		if entry.Instance.Key.Identity == id {
			return entry.Instance, true
		}
	}
	return ctf.Instance{}, false
}

func (e env) due(t testing.TB) []ctf.Identity {
	t.Helper()
	var ids []ctf.Identity
	for _, k := range collect(t, e.store.Due(t.Context())) {
		ids = append(ids, k.Identity)
	}
	return ids
}

// newDigest is a change of scenario.
func newDigest(strategy ctf.Strategy) ctf.ChallengeChange {
	return ctf.ChallengeChange{SetScenario: true, Scenario: ctf.Scenario{Reference: "registry/s:2", Digest: "sha256:2"}, Strategy: strategy}
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patient)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
