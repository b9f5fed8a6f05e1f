package redis_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A flaky Redis loses the connection at what is asked of sources, until it is well.
type flaky struct {
	goredis.Hook
	well atomic.Bool
}

func (*flaky) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (f *flaky) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error {
		if f.fails(command) {
			command.SetErr(io.EOF)
			return io.EOF
		}
		return next(ctx, command)
	}
}

func (f *flaky) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		if f.fails(commands...) {
			for _, command := range commands {
				command.SetErr(io.EOF)
			}
			return io.EOF
		}
		return next(ctx, commands)
	}
}

func (f *flaky) fails(commands ...goredis.Cmder) bool {
	return !f.well.Load() && slices.ContainsFunc(commands, func(c goredis.Cmder) bool {
		return len(c.Args()) > 3 && strings.HasPrefix(c.Args()[3].(string), "mayfly:source:")
	})
}

// TestDueDespiteHints: what leads to sources that hold nothing can't be taken away, and
// all that is due is handed out at once. The next time they are taken away.
func TestDueDespiteHints(t *testing.T) {
	t.Parallel()
	e := newEnv(t, redistest.Start(t))
	ctx := t.Context()
	hook := &flaky{}
	s, err := redis.Open(ctx, redis.Options{URL: e.url, Keys: e.keys, Hook: hook})
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })

	var want []ctf.Identity
	for _, name := range []string{"one", "other"} {
		c := newChallenge(name)
		c.Timeout = new(10 * time.Minute)
		e.create(t, c)
		for _, source := range []ctf.SourceID{"gone 1", "gone 2", "gone 3"} {
			id := e.started(t, c.Key, source).Key.Identity
			_, _, err := e.store.DeleteInstance(ctx, c.Key, source)
			check(t, err)
			e.destroy(t, c.Key, id)
		}
		want = append(want, e.started(t, c.Key, alice).Key.Identity)
	}
	hints := func() (left int) {
		for _, k := range e.allKeys(t) {
			if strings.HasPrefix(k, "mayfly:source:") {
				left += len(e.raw.HKeys(ctx, k).Val())
			}
		}
		return left
	}
	s.Shift(11 * time.Minute)
	var got []ctf.Identity
	failures := 0
	for k, err := range s.Due(ctx) {
		if err != nil {
			wantReason(t, err, ctf.ReasonUnavailable)
			failures++
			continue
		}
		got = append(got, k.Identity)
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" || failures != 2 {
		t.Errorf("%d failures, want 2; due are %s", failures, d)
	}
	if n := hints(); n != 8 {
		t.Errorf("%d hints are left, want all", n)
	}

	hook.well.Store(true)
	if again := collect(t, s.Due(ctx)); len(again) > 0 {
		t.Errorf("handed out again are %v", again)
	}
	if n := hints(); n != 2 {
		t.Errorf("%d hints are left, want those to what is there", n)
	}
}
