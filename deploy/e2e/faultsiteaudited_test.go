//go:build cluster && faults

package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// harm does by hand what an audit is to find, one thing after another, and it
// finds each of them. All but the objects that are gone is as it was afterwards.
func (f *faultSite) harm(t *testing.T) {
	t.Helper()
	challenge := f.challenges[0]
	_, instances := f.clients(t, "gateway")
	for _, source := range []string{"objects", "record", "lease"} {
		_, err := instances.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{ChallengeId: challenge, SourceId: source})
		check(t, err)
	}
	store, raw := f.openRedis(t)
	var y faults.Tally
	clustertest.Eventually(t, settled, "all agrees, and the pool is full", func() error {
		var said []error
		for _, each := range f.flaws(t, store, raw, &y) {
			said = append(said, errors.New(each.what))
		}
		if pooled := f.instances(t, f.challenges[1]); len(said) == 0 && len(pooled) == 0 {
			said = append(said, errors.New("the pool is empty"))
		}
		return errors.Join(said...)
	})
	wantFlaw := func(column *int, why string) {
		t.Helper()
		found := f.flaws(t, store, raw, &y)
		if !slices.ContainsFunc(found, func(each flaw) bool { return each.column == column }) {
			t.Errorf("%s, and the audit finds no more than %v", why, found)
		}
	}
	keys := map[ctf.SourceID]ctf.InstanceKey{}
	for entry, err := range store.All(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(challenge)}) {
		check(t, err)
		keys[entry.Instance.Source] = entry.Instance.Key
	}

	slices.Reverse(f.challenges)
	wantFlaw(&y.Doubled, "there is a pool where there should be none")
	slices.Reverse(f.challenges)

	lease, err := store.Lease(t.Context(), keys["lease"])
	check(t, err)
	wantFlaw(&y.Stuck, "an instance is leased")
	wantFlaw(&y.Apart, "there is a lease")
	lease.Release()

	without(t, raw, "mayfly:source:*", func() { wantFlaw(&y.Apart, "nothing is found by its source") })
	without(t, raw, fmt.Sprintf("mayfly:{*}:i:%s", keys["record"].Identity), func() {
		wantFlaw(&y.Unrecorded, "there is no record")
		wantFlaw(&y.Apart, "there is a checkpoint without a record")
	})

	check(t, f.Typed.CoreV1().ConfigMaps(f.namespace+"-instances").DeleteCollection(t.Context(), metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: fmt.Sprintf("%s=%s", kubernetes.LabelIdentity, keys["objects"].Identity)}))
	wantFlaw(&y.Lost, "there are no objects")
}

// without does something while Redis lacks keys.
func without(t *testing.T, raw *goredis.Client, pattern string, do func()) {
	t.Helper()
	names, err := raw.Keys(t.Context(), pattern).Result()
	check(t, err)
	if len(names) == 0 {
		t.Fatalf("there is no key like %s", pattern)
	}
	for _, name := range names {
		kept, err := raw.Dump(t.Context(), name).Result()
		check(t, err)
		check(t, raw.Del(t.Context(), name).Err())
		defer func() { check(t, raw.Restore(t.Context(), name, 0, kept).Err()) }()
	}
	do()
}
