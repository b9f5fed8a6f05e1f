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

// holdingPage is how many instances are looked up in one go.
const holdingPage = 100

// A Platform is where instances run.
type Platform interface {
	// Instances yields every instance of this installation that has anything
	// there, each once.
	Instances(ctx context.Context) iter.Seq2[ctf.Holding, error]
	// Shows tells whether an instance is sure to be among these as long as it has
	// this resource.
	Shows(resource ctf.Resource) bool
}

// An Inventory says what is compared with the records, and what becomes of what
// only one of both knows.
type Inventory struct {
	Platforms []Platform
	Orphans   Orphans
	Lost      Lost
}

// compare looks at all that the platforms have and all that is on record.
func (f *Function) compare(ctx context.Context) error {
	if len(f.inventory.Platforms) == 0 {
		return nil
	}
	began := time.Now()
	now, err := f.store.Now(ctx)
	if err != nil {
		return fmt.Errorf("compare what runs with the records: %w", err)
	}
	var failures []error
	var group errgroup.Group
	group.SetLimit(orphansAtOnce)
	var shelves []shelf
	for _, platform := range f.inventory.Platforms {
		s := shelf{platform, map[ctf.Identity]bool{}}
		for found, err := range f.holdings(ctx, platform) {
			switch {
			case err != nil:
				failures = append(failures, err)
				s.runs = nil // what it has is not known
			case found.recorded:
				s.runs[found.Key.Identity] = !found.Dead
			default:
				group.Go(func() error {
					f.removeOrphan(ctx, found.Holding, now.Sub(found.Since))
					return nil
				})
			}
		}
		if len(s.runs) > 0 {
			shelves = append(shelves, s)
		}
	}
	failures = append(failures, group.Wait(), f.findLost(ctx, shelves, began))
	return errors.Join(failures...)
}

// A shelf is what a platform has of what is on record, and whether all of it runs.
type shelf struct {
	Platform
	runs map[ctf.Identity]bool
}

// A found holding is one that the platform has.
type found struct {
	ctf.Holding
	recorded bool
}

// holdings yields what a platform has. An error ends the sequence.
func (f *Function) holdings(ctx context.Context, platform Platform) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		page := make([]ctf.Holding, 0, holdingPage)
		// look yields the page; it returns false to stop.
		look := func() bool {
			keys := make([]ctf.InstanceKey, len(page))
			for n, holding := range page {
				keys[n] = holding.Key
			}
			recorded, err := f.store.Recorded(ctx, keys)
			if err != nil {
				yield(found{}, fmt.Errorf("look for the records of what runs: %w", err))
				return false
			}
			for n, holding := range page {
				if !yield(found{holding, recorded[n]}, nil) {
					return false
				}
			}
			page = page[:0]
			return true
		}
		for holding, err := range platform.Instances(ctx) {
			if err != nil {
				yield(found{}, fmt.Errorf("list what runs: %w", err))
				return
			}
			if page = append(page, holding); len(page) == holdingPage && !look() {
				return
			}
		}
		look()
	}
}
