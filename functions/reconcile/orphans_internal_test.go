package reconcile

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A hall is a platform that has what is put into it.
type hall []ctf.Holding

func (hall) Shows(r ctf.Resource) bool { return strings.HasPrefix(r.Type, "machine:") }

func (h hall) Instances(context.Context) iter.Seq2[ctf.Holding, error] {
	return func(yield func(ctf.Holding, error) bool) {
		for _, holding := range h {
			if !yield(holding, nil) {
				return
			}
		}
	}
}

// The grace of an orphan is counted by the store's clock, and not by the one of
// the process that looks.
func TestGraceIsOfTheStoresClock(t *testing.T) {
	t.Parallel()
	s := newSite(t, time.Millisecond)
	now, err := s.store.Now(t.Context())
	check(t, err)
	orphan := ctf.InstanceKey{Challenge: s.key, Identity: ctf.NewIdentity()}
	s.inventory = Inventory{
		Platforms: []Platform{hall{{Key: orphan, Since: now}}},
		Orphans:   Orphans{Grace: time.Hour},
	}
	for _, step := range []struct {
		later     time.Duration
		destroyed int64
	}{{0, 0}, {time.Hour - time.Minute, 0}, {2 * time.Minute, 1}} {
		s.store.Shift(step.later)
		check(t, s.compare(t.Context()))
		if got := s.machine.begun.Load(); got != step.destroyed {
			t.Errorf("after another %v, %d were destroyed, want %d", step.later, got, step.destroyed)
		}
	}
}

// A walk that needs all of the time there is keeps no orphan alive.
func TestOrphansBesideLongWork(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	now, err := s.store.Now(t.Context())
	check(t, err)
	orphan := ctf.InstanceKey{Challenge: s.key, Identity: ctf.NewIdentity()}
	s.inventory = Inventory{Platforms: []Platform{hall{{Key: orphan, Since: now.Add(-time.Hour)}}}}
	check(t, s.Handle(t.Context()))
	if n := s.machine.downs.Load(); n != 1 {
		t.Errorf("%d were to be destroyed, want the orphan", n)
	}
}
