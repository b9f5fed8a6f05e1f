package redis_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// drained returns the last error of a sequence that goes on after errors.
func drained[T any](sequence iter.Seq2[T, error]) (failed error) {
	for _, err := range sequence {
		if err != nil {
			failed = err
		}
	}
	return failed
}

// damageSteps are asked of a store that has damaged records. The source "team" has
// an instance of the challenge that is ready. One store is ahead of time.
func (e env) damageSteps(late env, c ctf.ChallengeKey, d ctf.Deletion, has map[string]ctf.Identity) map[string]step {
	all := e.steps(c, d, has)
	maps.Copy(all, map[string]step{
		"claim": func(ctx context.Context) error {
			_, err := e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: "newcomer", ReadyOnly: true})
			return err
		},
		"retrieve": func(ctx context.Context) error { _, err := e.store.Instance(ctx, c, "team"); return err },
		"query": func(ctx context.Context) error {
			return errors.Join(drained(e.store.BySource(ctx, tenant, "team")), drained(e.store.Claimed(ctx, c)),
				drained(e.store.All(ctx, c)), drained(e.store.Challenges(ctx, tenant)))
		},
		"expire":   func(ctx context.Context) error { return drained(late.store.Due(ctx)) },
		"snapshot": func(ctx context.Context) error { return drained(e.store.Snapshots(ctx)) },
		"repair":   func(ctx context.Context) error { return e.store.RepairIndexes(ctx, c) },
		"work": func(ctx context.Context) error {
			l, err := e.store.Lease(ctx, ctf.InstanceKey{Challenge: c, Identity: has["team"]})
			if err != nil {
				return err
			}
			defer l.Release()
			w, err := l.Load(ctx)
			if err != nil {
				return err
			}
			w.Instance.State = ctf.Updating
			if _, err := l.Deployed(ctx, w, result(has["team"])); err != nil {
				return err
			}
			return l.Abandon(ctx, ctf.Failed, "it failed")
		},
	})
	return all
}

// FuzzDamage puts anything into a field of a record, and takes a step. What comes
// of it is a result or an error that is typed, and the step stays within its challenge.
func FuzzDamage(f *testing.F) {
	e := newEnv(f, redistest.Start(f))
	late := e
	late.store = open(f, e.url, e.keys, 0)
	late.store.Shift(2 * time.Hour)
	c, d, has, restore := e.populated(f)
	steps := e.damageSteps(late, c, d, has)
	order := slices.Sorted(maps.Keys(steps))
	mine, others := e.allRecords(f, c)
	before := e.records(f, slices.Concat(mine, others))
	for step := range order {
		f.Add(byte(step), byte(0), byte(step), "")
		f.Add(byte(step), byte(1), byte(2*step), "x")
		f.Add(byte(step), byte(2), byte(3*step), "-1")
	}
	f.Add(byte(slices.Index(order, "renew team")), byte(0), byte(9), "1.5")
	f.Add(byte(slices.Index(order, "expire")), byte(1), byte(4), "99999999999999999999.000000000")
	f.Fuzz(func(t *testing.T, n, record, field byte, value string) {
		step := order[int(n)%len(order)]
		damaged := mine[int(record)%len(mine)]
		names := slices.Sorted(maps.Keys(before[damaged]))
		name := names[int(field)%len(names)]
		_, err := e.raw.Pipelined(t.Context(), func(p goredis.Pipeliner) error {
			restore(p)
			p.HSet(t.Context(), damaged, name, value)
			return nil
		})
		check(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		defer cancel()
		err = steps[step](ctx)
		typed, ok := errors.AsType[*ctf.Error](err)
		switch {
		case err == nil, errors.Is(err, ctf.ErrUnreadable), ok && typed.Kind != ctf.Internal,
			errors.Is(err, ctf.ErrNoneReady), errors.Is(err, ctf.ErrSuperseded), errors.Is(err, ctf.ErrLeaseLost):
		default:
			t.Errorf("%s with %s=%q of %s: %v", step, name, value, damaged, err)
		}
		after := e.records(t, slices.Concat(mine, others))
		if err != nil && strings.Contains(err.Error(), "user_script") && step != "work" {
			want, is := maps.Clone(before), after // a script that failed has done nothing; work has several
			want[damaged] = maps.Clone(want[damaged])
			want[damaged][name] = value
			if step == "expire" { // no record keeps others from their end
				want, is = map[string]map[string]string{damaged: want[damaged]}, map[string]map[string]string{damaged: after[damaged]}
			}
			if d := cmp.Diff(want, is); d != "" {
				t.Errorf("%s with %s=%q of %s was done by half:\n%s", step, name, value, damaged, d)
			}
		}
		for _, k := range others {
			if d := cmp.Diff(before[k], after[k]); d != "" {
				t.Errorf("%s with %s=%q of %s changed another challenge:\n%s", step, name, value, damaged, d)
			}
		}
	})
}

// allRecords returns where the records of a challenge are, and where those of
// others. What was found is of use to the next run if they come in the same order.
func (e env) allRecords(t testing.TB, c ctf.ChallengeKey) (mine, others []string) {
	t.Helper()
	all := slices.DeleteFunc(e.allKeys(t), func(k string) bool { return !strings.HasSuffix(k, "}:c") && !strings.Contains(k, "}:i:") })
	found := e.records(t, all)
	slices.SortFunc(all, func(a, b string) int {
		return strings.Compare(found[a]["source"]+found[a]["state"], found[b]["source"]+found[b]["state"])
	})
	for _, k := range all {
		if strings.HasSuffix(k, "}:c") && found[k]["id"] == string(c.ID) {
			prefix := strings.TrimSuffix(k, "c")
			for _, k := range all {
				if strings.HasPrefix(k, prefix) {
					mine = append(mine, k)
				} else {
					others = append(others, k)
				}
			}
		}
	}
	return mine, others
}

// populated makes two challenges, each with instances in several states, and
// returns one of them, what sources have of it, and what makes all anew.
func (e env) populated(f *testing.F) (ctf.ChallengeKey, ctf.Deletion, map[string]ctf.Identity, func(goredis.Pipeliner)) {
	f.Helper()
	var d ctf.Deletion
	has := map[string]ctf.Identity{"newcomer": "none"}
	c, other := newChallenge("c"), newChallenge("other")
	c.Timeout = new(time.Hour) // so that it is due, and the other is not
	for _, c := range []ctf.Challenge{other, c} {
		c.Until, c.Pool = new(time.Now().Add(24*time.Hour)), ctf.Pool{Min: 3, Max: 9}
		e.create(f, c)
		has["team"] = e.started(f, c.Key, "team").Key.Identity
		has["beginner"] = e.reserve(f, c.Key, "beginner").Instance.Key.Identity
		has["leaver"] = e.started(f, c.Key, "leaver").Key.Identity
		_, deletion, err := e.store.DeleteInstance(f.Context(), c.Key, "leaver")
		check(f, err)
		stored, err := e.store.Challenge(f.Context(), c.Key)
		check(f, err)
		d = ctf.Deletion{Request: deletion.Request, Incarnation: stored.Incarnation}
		e.deploy(f, c.Key, e.pooled(f, c.Key))
		e.pooled(f, c.Key)
	}
	dumps := map[string]string{}
	for _, k := range e.allKeys(f) {
		dumps[k] = e.raw.Dump(f.Context(), k).Val()
	}
	return c.Key, d, has, func(p goredis.Pipeliner) {
		p.FlushAll(context.Background())
		for k, dump := range dumps {
			p.Restore(context.Background(), k, 0, dump)
		}
	}
}

// records returns what Redis holds at these keys.
func (e env) records(t testing.TB, keys []string) map[string]map[string]string {
	t.Helper()
	reads := map[string]*goredis.MapStringStringCmd{}
	_, err := e.raw.Pipelined(t.Context(), func(p goredis.Pipeliner) error {
		for _, k := range keys {
			reads[k] = p.HGetAll(t.Context(), k)
		}
		return nil
	})
	check(t, err)
	found := map[string]map[string]string{}
	for k, read := range reads {
		found[k] = read.Val()
	}
	return found
}
