package redis_test

import (
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// FuzzRestore restores any records. What passes the check can be restored, and
// is in the next backup as it was in this one; what was in the pool is deleting.
func FuzzRestore(f *testing.F) {
	e := newEnv(f, redistest.Start(f))
	f.Add("c", "1", "60.000000000", "1.5", "team", "deleting", "2", "1.000000000", "a", "b")
	f.Add("<&> \u2603", "", "", "-1", "", "pending", "", "", "strategy", "+x")
	f.Add("c", "9223372036854775807", "9223372037.000000000", "nan", "t", "ready", "-1", "+1.000000000", "schema", "2")
	f.Fuzz(func(t *testing.T, id, revision, timeout, from, source, state, fence, date, name, value string) {
		const identity = "0123456789abcdef"
		instance := map[string]string{name: value}
		maps.Copy(instance, map[string]string{"schema": "1", "identity": identity, "state": state, "fence": fence, "revision": revision,
			"source": source, "since": date, "last_renew": date, "ends_at": date})
		s := redis.Snapshot{
			Challenge: map[string]string{"schema": "1", "tenant": string(tenant), "id": id, "incarnation": "1", "revision": revision,
				"timeout": timeout, "ends_at": date},
			Sources: map[string]string{source: identity}, Pooled: []string{identity},
			Deleting:  map[string]string{identity: from},
			Instances: []redis.InstanceSnapshot{{Record: instance}},
		}
		k, err := e.store.CheckChallenge(s)
		if err != nil || e.store.CheckInstance(k, s.Instances[0]) != nil {
			return
		}
		e.flush(t)
		e.restore(t, []redis.Snapshot{s}, "name")
		again := collect(t, e.store.Snapshots(t.Context()))
		if len(again) != 1 || len(again[0].Instances) != 1 {
			t.Fatalf("it is %v", again)
		}
		for _, record := range []map[string]string{s.Challenge, instance, again[0].Challenge, again[0].Instances[0].Record} {
			delete(record, "fence")
			delete(record, "revision")
		}
		if now := again[0].Deleting[identity]; state == string(ctf.Deleting) && number(t, now) != number(t, from) {
			t.Errorf("it is deleting since %s, and was since %s", now, from)
		}
		s.Deleting, again[0].Deleting = nil, nil
		s.Pooled = nil
		if state != string(ctf.Deleting) {
			for _, name := range []string{"changed_at", "attempts", "strategy", "deleted_by"} {
				delete(again[0].Instances[0].Record, name)
				delete(instance, name)
			}
			instance["state"] = string(ctf.Deleting)
		}
		if d := cmp.Diff(s, again[0], cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	check(t, err)
	return n
}
