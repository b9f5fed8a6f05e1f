package backup_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestDeath has whoever restores die before each of its commands to Redis in
// turn, and somebody else begin again. What is there in between is whole, or
// not to be seen, and in the end all is there.
func TestDeath(t *testing.T) {
	t.Parallel()
	from, url := newSite(t, newKeys(t)), redistest.Start(t)
	from.fill(t, 3)
	text, want := from.written(t, nil), from.shown(t)
	to := siteAt(t, url, from.keys)
	for commands := int64(0); ; commands++ {
		check(t, to.raw.FlushAll(t.Context()).Err())
		dies := siteAt(t, redistest.Mortal(t, url, commands, func() {}), from.keys)
		err := dies.restored(t.Context(), text, nil)
		for name, got := range to.shown(t) {
			if d := cmp.Diff(want[name], got); d != "" {
				t.Errorf("after %d commands: %s", commands, d)
			}
		}
		if err == nil {
			if commands < 30 {
				t.Errorf("it took %d commands: this shows too little", commands)
			}
			break
		}
		if named := to.raw.Get(t.Context(), "mayfly:installation").Val(); named != "" {
			if _, err := to.store.Installation(t.Context()); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
				t.Errorf("after %d commands, a function may begin to work: %v", commands, err)
			}
		}
		check(t, to.restored(t.Context(), text, nil))
		if d := cmp.Diff(want, to.shown(t)); d != "" {
			t.Errorf("after %d commands, and again: %s", commands, d)
		}
	}
	if d := cmp.Diff(want, to.shown(t)); d != "" {
		t.Error(d)
	}
}
