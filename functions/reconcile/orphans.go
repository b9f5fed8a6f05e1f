package reconcile

import (
	"context"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// orphansAtOnce bounds how many orphans are destroyed in parallel.
const orphansAtOnce = 4

// Orphans say what becomes of instances that a platform has and no record
// knows.
type Orphans struct {
	// Grace is how old an orphan must be to be destroyed. Records are written
	// before anything is made and kept until all is destroyed, so it guards
	// against mistakes of people alone, such as a Redis restored from yesterday.
	Grace time.Duration
	// ListOnly has orphans logged and left alone.
	ListOnly bool
}

// removeOrphan destroys one; a failure is logged, and the next tick tries again.
func (f *Function) removeOrphan(ctx context.Context, orphan ctf.Holding, age time.Duration) {
	log := f.log.With("challenge", orphan.Key.Challenge.ID, "identity", orphan.Key.Identity, "age", age.Round(time.Second))
	rule := f.inventory.Orphans
	switch {
	case orphan.Key.Challenge.ID == "":
		log.WarnContext(ctx, "an instance does not tell its challenge, and is left alone")
		return
	case rule.ListOnly:
		log.WarnContext(ctx, "an instance has no record, and is left alone")
		return
	case age < rule.Grace:
		log.WarnContext(ctx, "an instance has no record, and will be destroyed", "in", (rule.Grace - age).Round(time.Second))
		return
	}
	if err := f.lifecycle.Discard(ctx, orphan.Key); err != nil {
		log.WarnContext(ctx, "destroying an instance without a record failed", "error", err)
		return
	}
	log.WarnContext(ctx, "an instance without a record is destroyed")
}
