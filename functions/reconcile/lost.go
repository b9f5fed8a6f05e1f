package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

// Lost says what becomes of an instance that is ready by its record and of which
// the platform has nothing, or no longer all.
type Lost string

// What becomes of them.
const (
	// Repair makes the instance anew, for the same source, with the same identity
	// and end. One of a pool is destroyed, and the pool filled.
	Repair Lost = "repair"
	// End destroys what is left, as if the instance had ended.
	End Lost = "end"
	// Show tells of it in the log and in the record.
	Show Lost = "show"
)

// Set takes the name of what is to be done, for flags.
func (l *Lost) Set(text string) error {
	switch chosen := Lost(text); chosen {
	case Repair, End, Show:
		*l = chosen
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", Repair, End, Show)
}

// String returns the name.
func (l Lost) String() string { return string(l) }

// Type is what flags call such a value.
func (Lost) Type() string { return "string" }

// leaves is the state in which a lost instance is left.
func (l Lost) leaves() ctf.State {
	switch l {
	case End:
		return ctf.Deleting
	case Show:
		return ctf.Ready
	default:
		return ctf.Updating
	}
}

// findLost looks for ready records of which the platforms have nothing. A platform
// that has nothing of what is on record has no shelf, and no say: it is more
// likely another one than the one on which all was lost. began is when the first
// platform was asked: a record that changed since is left to the next tick.
func (f *Function) findLost(ctx context.Context, shelves []shelf, began time.Time) error {
	if len(shelves) == 0 {
		return nil
	}
	var group errgroup.Group
	group.SetLimit(challengesAtOnce)
	var failed error
	for challenge, err := range f.challenges(ctx) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		group.Go(func() error {
			if err := f.lose(ctx, challenge.Key, shelves, began); err != nil {
				return fmt.Errorf("challenge %q: %w", challenge.Key.ID, err)
			}
			return nil
		})
	}
	return errors.Join(failed, group.Wait())
}

// lose records what is lost of a challenge, and then sees to it.
func (f *Function) lose(ctx context.Context, key ctf.ChallengeKey, shelves []shelf, began time.Time) error {
	var failed error
	var lost []ctf.Identity
	for entry, err := range f.store.All(ctx, key) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("list instances: %w", err))
			continue
		}
		i := entry.Instance
		settled := i.State == ctf.Ready && entry.Deployed && !entry.Leased && entry.Age > time.Since(began)
		lacking := without(i.Key.Identity, shelves)
		if !settled || len(lacking) == 0 {
			continue
		}
		loss := lifecycle.Loss{Instance: i.Key, Revision: i.Revision, Missing: func(r ctf.Resource) bool {
			return slices.ContainsFunc(lacking, func(p Platform) bool { return p.Shows(r) })
		}}
		is, err := f.lifecycle.Lose(ctx, loss, f.inventory.Lost.leaves())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if is {
			f.log.WarnContext(ctx, "an instance is lost", "challenge", key.ID, "identity", i.Key.Identity, "then", f.inventory.Lost)
			lost = append(lost, i.Key.Identity)
		}
	}
	if len(lost) == 0 || f.inventory.Lost == Show {
		return failed
	}
	if err := f.lifecycle.SettleAll(ctx, key, lost); err != nil {
		failed = errors.Join(failed, fmt.Errorf("%s what was lost: %w", f.inventory.Lost, err))
	}
	return errors.Join(failed, f.pools.Handle(ctx, ctf.Event{Type: ctf.ChallengeUpdated, Challenge: key}))
}

// without are the platforms that don't have an instance, or no longer all of it.
func without(id ctf.Identity, shelves []shelf) (lacking []Platform) {
	var absent []Platform
	there := false
	for _, s := range shelves {
		switch runs, has := s.runs[id]; {
		case !has:
			absent = append(absent, s.Platform)
		case runs:
			there = true
		default:
			lacking = append(lacking, s.Platform)
		}
	}
	if len(lacking) == 0 && !there { // few are on two platforms, and to look at each record again would be dear
		return absent
	}
	return lacking
}
