package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// orphansAtOnce bounds how many orphans are destroyed in parallel.
	orphansAtOnce = 4
	// orphanPage is how many instances are looked up in one go.
	orphanPage = 100
)

// A Platform is where instances run.
type Platform interface {
	// Instances yields every instance of this installation that has anything
	// there, each once.
	Instances(ctx context.Context) iter.Seq2[ctf.Holding, error]
}

// Orphans say what becomes of instances that a platform has and no record
// knows.
type Orphans struct {
	Platforms []Platform
	// Grace is how old an orphan must be to be destroyed. Records are written
	// before anything is made and kept until all is destroyed, so it guards
	// against mistakes of people alone, such as a Redis restored from yesterday.
	Grace time.Duration
	// ListOnly has orphans logged and left alone.
	ListOnly bool
}

// removeOrphans finds instances without a record and destroys them.
func (f *Function) removeOrphans(ctx context.Context) error {
	var failures []error
	var group errgroup.Group
	group.SetLimit(orphansAtOnce)
	for _, platform := range f.orphans.Platforms {
		for orphan, err := range f.unrecorded(ctx, platform) {
			if err != nil {
				failures = append(failures, err)
				break
			}
			group.Go(func() error {
				f.removeOrphan(ctx, orphan)
				return nil
			})
		}
	}
	return errors.Join(append(failures, group.Wait())...)
}

// removeOrphan destroys one; a failure is logged, and the next tick tries again.
func (f *Function) removeOrphan(ctx context.Context, orphan ctf.Holding) {
	age := time.Since(orphan.Since)
	log := f.log.With("challenge", orphan.Key.Challenge.ID, "identity", orphan.Key.Identity, "age", age.Round(time.Second))
	switch {
	case orphan.Key.Challenge.ID == "":
		log.WarnContext(ctx, "an instance does not tell its challenge, and is left alone")
		return
	case f.orphans.ListOnly:
		log.WarnContext(ctx, "an instance has no record, and is left alone")
		return
	case age < f.orphans.Grace:
		log.WarnContext(ctx, "an instance has no record, and will be destroyed", "in", (f.orphans.Grace - age).Round(time.Second))
		return
	}
	if err := f.lifecycle.Discard(ctx, orphan.Key); err != nil {
		log.WarnContext(ctx, "destroying an instance without a record failed", "error", err)
		return
	}
	log.WarnContext(ctx, "an instance without a record is destroyed")
}

// unrecorded yields what a platform has and no record knows.
func (f *Function) unrecorded(ctx context.Context, platform Platform) iter.Seq2[ctf.Holding, error] {
	return func(yield func(ctf.Holding, error) bool) {
		page := make([]ctf.Holding, 0, orphanPage)
		// look yields the orphans of the page; it returns false to stop.
		look := func() bool {
			keys := make([]ctf.InstanceKey, len(page))
			for n, holding := range page {
				keys[n] = holding.Key
			}
			recorded, err := f.store.Recorded(ctx, keys)
			if err != nil {
				yield(ctf.Holding{}, fmt.Errorf("look for the records of what runs: %w", err))
				return false
			}
			for n, holding := range page {
				if !recorded[n] && !yield(holding, nil) {
					return false
				}
			}
			page = page[:0]
			return true
		}
		for holding, err := range platform.Instances(ctx) {
			if err != nil {
				yield(ctf.Holding{}, fmt.Errorf("list what runs: %w", err))
				return
			}
			if page = append(page, holding); len(page) == orphanPage && !look() {
				return
			}
		}
		look()
	}
}
