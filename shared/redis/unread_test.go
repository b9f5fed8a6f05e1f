package redis_test

import (
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// spoil makes every record unreadable that has this value in this field.
func (e env) spoil(t *testing.T, field, value string, with map[string]string) {
	t.Helper()
	spoiled := 0
	for _, k := range e.allKeys(t) {
		if !strings.HasSuffix(k, "}:c") && !strings.Contains(k, "}:i:") || e.raw.HGet(t.Context(), k, field).Val() != value {
			continue
		}
		check(t, e.raw.HSet(t.Context(), k, with).Err())
		spoiled++
	}
	if spoiled != 1 {
		t.Fatalf("%d records are spoiled, want 1", spoiled)
	}
}

// walk returns all that a sequence yields, and the error that it may end with.
func walk[T any](t *testing.T, sequence iter.Seq2[T, error]) (all []T, failed error) {
	t.Helper()
	for item, err := range sequence {
		if failed != nil {
			t.Errorf("this follows an error: %v %v", item, err)
		}
		if failed = err; err == nil {
			all = append(all, item)
		}
	}
	return all, failed
}

// What can't be read is told of in the end, once all others are.
func testUnreadableChallenges(t *testing.T, e env) {
	const well = 120 // more than a page
	for n := range well {
		e.create(t, newChallenge(fmt.Sprint("well ", n)))
	}
	for id, with := range map[string]map[string]string{"newer": {"schema": "9"}, "damaged": {"ends_at": "soon"}} {
		e.create(t, newChallenge(id))
		e.spoil(t, "id", id, with)
	}
	all, err := walk(t, e.store.Challenges(t.Context(), tenant))
	wantError(t, err, ctf.ErrUnreadable)
	if !strings.Contains(err.Error(), "and 1 more") {
		t.Errorf("it does not tell how many: %v", err)
	}
	if len(all) != well {
		t.Errorf("%d are told of, want %d", len(all), well)
	}
}

func testUnreadableInstances(t *testing.T, e env) {
	ctx := t.Context()
	c, other := newChallenge("c"), newChallenge("other")
	c.Timeout = new(time.Hour)
	e.create(t, c)
	e.create(t, other)
	for source, with := range map[ctf.SourceID]map[string]string{
		"newer": {"schema": "9"}, "damaged": {"ends_at": "soon"}, "odd": {"additional": "{"}, "well": nil,
	} {
		e.started(t, c.Key, source)
		if with != nil {
			e.spoil(t, "source", string(source), with)
		}
		e.started(t, other.Key, source)
		held, err := walk(t, e.store.BySource(ctx, tenant, source))
		switch {
		case with == nil:
			check(t, err)
		case len(held) != 1 || held[0].Key.Challenge != other.Key:
			t.Errorf("%s holds %v", source, held)
		default:
			wantError(t, err, ctf.ErrUnreadable)
		}
	}
	claimed, err := walk(t, e.store.Claimed(ctx, c.Key))
	wantError(t, err, ctf.ErrUnreadable)
	if len(claimed) != 1 || claimed[0].Source != "well" {
		t.Errorf("claimed are %v", claimed)
	}
	entries, err := walk(t, e.store.All(ctx, c.Key))
	wantError(t, err, ctf.ErrUnreadable)
	if len(entries) != 1 || entries[0].Instance.Source != "well" {
		t.Errorf("recorded are %v", entries)
	}
	// All others are put into the indexes again.
	for _, k := range e.allKeys(t) {
		if strings.HasPrefix(k, "mayfly:source:") {
			check(t, e.raw.Del(ctx, k).Err())
		}
	}
	wantError(t, e.store.RepairIndexes(ctx, c.Key), ctf.ErrUnreadable)
	if held, err := walk(t, e.store.BySource(ctx, tenant, "well")); err != nil || len(held) != 1 {
		t.Errorf("after a repair it holds %v: %v", held, err)
	}
}
