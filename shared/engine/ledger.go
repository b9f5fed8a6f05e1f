package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Ledger is a journal in memory, for who makes an instance and destroys it in
// the same process. The zero value is empty, and its deadline has passed. It may
// be used by many at once.
type Ledger struct {
	mu       sync.Mutex
	held     ctf.Checkpoint
	deadline time.Time
}

// Append adds an entry.
func (l *Ledger) Append(_ context.Context, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.Journal = append(l.held.Journal, slices.Clone(entry))
	return nil
}

// Rebase replaces all that there is by a new base.
func (l *Ledger) Rebase(_ context.Context, base []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = ctf.Checkpoint{Base: slices.Clone(base)}
	return nil
}

// Deadline is when work must have ended.
func (l *Ledger) Deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// Extend lets work take until an instant.
func (l *Ledger) Extend(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = until
}

// Checkpoint returns what the next operation on the instance starts from.
func (l *Ledger) Checkpoint() ctf.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ctf.Checkpoint{Base: l.held.Base, Journal: slices.Clone(l.held.Journal)}
}
