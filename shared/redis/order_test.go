package redis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// testAnyOrder races every verb on a few sources, and looks whether records
// and lists still agree. Then it brings everything to its end.
func testAnyOrder(t *testing.T, e env) {
	ctx := t.Context()
	c := newChallenge("c")
	c.Timeout, c.Pool = new(time.Hour), ctf.Pool{Min: 3, Max: 8}
	e.create(t, c)
	var group sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(worker)))
		group.Go(func() {
			for range 60 {
				if err := e.anyVerb(ctx, c.Key, random); err != nil && !expected(err) {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	e.checkLists(t, c.Key)
	d, ids, err := e.store.DeleteChallenge(ctx, c.Key)
	check(t, err)
	e.checkLists(t, c.Key)
	for _, id := range ids {
		e.destroy(t, c.Key, id)
	}
	if removed, err := e.store.RemoveChallenge(ctx, c.Key, d.Incarnation); err != nil || !removed {
		t.Fatal(removed, err)
	}
	for _, k := range e.allKeys(t) {
		if strings.Contains(k, "}:") && !outlives(k) {
			t.Errorf("%s is left", k)
		}
	}
}

func expected(err error) bool {
	if errors.Is(err, ctf.ErrSuperseded) {
		return true
	}
	switch ctf.ReasonOf(err) {
	case ctf.ReasonInstanceExists, ctf.ReasonInstanceNotFound, ctf.ReasonInstanceExpired:
		return true
	}
	return false
}

func (e env) anyVerb(ctx context.Context, c ctf.ChallengeKey, random *rand.Rand) error {
	source := ctf.SourceID(fmt.Sprint(random.IntN(5)))
	switch random.IntN(8) {
	case 0, 1:
		additional := map[string]string{}
		if random.IntN(2) == 0 {
			additional["a"] = "b"
		}
		_, err := e.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: source, Additional: additional})
		return err
	case 2:
		_, err := e.store.Renew(ctx, c, source)
		return err
	case 3:
		_, _, err := e.store.DeleteInstance(ctx, c, source)
		return err
	case 4:
		change := newDigest([]ctf.Strategy{ctf.InPlace, ctf.BlueGreen, ctf.Recreate}[random.IntN(3)])
		change.Scenario.Digest = fmt.Sprint("sha256:", random.IntN(3))
		_, err := e.store.UpdateChallenge(ctx, c, change)
		return err
	case 5:
		_, _, err := e.store.ReservePooled(ctx, c)
		return err
	default:
		for entry, err := range e.store.All(ctx, c) {
			if err != nil {
				return err
			}
			if random.IntN(3) == 0 {
				return e.settleOne(ctx, entry.Instance.Key, random)
			}
		}
	}
	return nil
}

func (e env) settleOne(ctx context.Context, k ctf.InstanceKey, random *rand.Rand) error {
	l, err := e.store.Lease(ctx, k)
	if err != nil {
		return err
	}
	defer l.Release()
	w, err := l.Load(ctx)
	if err != nil {
		return err
	}
	if err := l.Journal(w.Instance.State).Append(ctx, []byte("entry")); err != nil {
		return err
	}
	switch w.Instance.State {
	case ctf.Deleting:
		return l.Forget(ctx)
	case ctf.Ready, ctf.Failed:
		return nil
	case ctf.Updating:
		if w.Instance.Strategy == ctf.BlueGreen && random.IntN(2) == 0 {
			_, err := l.Replacement(ctx)
			return err
		}
		if random.IntN(4) == 0 {
			return l.Abandon(ctx, []ctf.State{ctf.Ready, ctf.Deleting, ctf.Failed}[random.IntN(3)], "it went wrong")
		}
	}
	_, err = l.Deployed(ctx, w, result(k.Identity))
	return err
}

// checkLists holds every list of a challenge against its records.
func (e env) checkLists(t *testing.T, c ctf.ChallengeKey) {
	t.Helper()
	ctx := t.Context()
	prefix := ""
	for _, k := range e.allKeys(t) {
		if p, ok := strings.CutSuffix(k, "}:c"); ok {
			prefix = p + "}:"
		}
	}
	challenge, err := e.store.Challenge(ctx, c)
	check(t, err)
	pointers := e.raw.HGetAll(ctx, prefix+"s").Val()
	var pooled, deleting, claimable []string
	records := map[string]ctf.Instance{}
	for _, entry := range collect(t, e.store.All(ctx, c)) {
		i, id := entry.Instance, string(entry.Instance.Key.Identity)
		records[id] = i
		switch {
		case i.State == ctf.Deleting:
			deleting = append(deleting, id)
		case i.Source == "":
			pooled = append(pooled, id)
			if i.State == ctf.Ready {
				claimable = append(claimable, id)
			}
			if i.Generation != challenge.Generation {
				t.Errorf("pooled %s is of generation %d, the challenge of %d", id, i.Generation, challenge.Generation)
			}
		case i.Replaces == "" && pointers[string(i.Source)] != id:
			t.Errorf("%s instance %s of %s is not what it points to, %q", i.State, id, i.Source, pointers[string(i.Source)])
		}
	}
	for source, id := range pointers {
		if i, ok := records[id]; !ok || string(i.Source) != source {
			t.Errorf("%s points to %s, which is %+v", source, id, i)
		}
	}
	same := func(what string, want, got []string) {
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s: %s", what, cmp.Diff(want, got))
		}
	}
	same("pooled", pooled, e.raw.SMembers(ctx, prefix+"q").Val())
	same("claimable", claimable, e.raw.LRange(ctx, prefix+"p", 0, -1).Val())
	same("deleting", deleting, e.raw.ZRange(ctx, prefix+"d", 0, -1).Val())
	for _, k := range e.allKeys(t) {
		for _, part := range []string{"i:", "x:", "j:"} {
			if id, ok := strings.CutPrefix(k, prefix+part); ok && records[id].State == "" {
				t.Errorf("%s belongs to no instance", k)
			}
		}
	}
}
