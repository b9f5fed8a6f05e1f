package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bsm/redislock"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The fast tick is a clock outside of Redis, so no step changes both it and the
// due entries. shared/docs/decisions/0005-quiet-tick.md tells why what follows
// is right all the same.
//
//	on:   write the due entry and read the tick (one step); if it is off: tell
//	      the clock, record on unless the tick was changed meanwhile, else again
//	off:  record off; tell the clock; record off again unless something is due
//	      by now (one step), else turn it on

const (
	defaultReconcileEvery = 15 * time.Minute
	// slack is how late reconcile may look, counted from when it was to come: it
	// starts, works up to a minute, and the tick takes a moment to come on.
	slack = 2 * time.Minute
	// turnTimeout bounds one turning of the tick, and tickLease is longer.
	turnTimeout = 30 * time.Second
	tickLease   = 40 * time.Second
	// turnAttempts bounds how often turning the tick on begins anew because it
	// was turned off under it.
	turnAttempts = 5
)

// A ticker turns the fast tick. At most one goroutine of it is at work.
type ticker struct {
	store   *Store
	clock   ctf.Tick // nil: always on
	horizon string   // a span: what is due within it needs the tick
	log     *slog.Logger
	waking  sync.WaitGroup

	mu     sync.Mutex
	awake  bool // a goroutine is turning the tick on
	wanted bool // once more, since that goroutine last looked
}

func (t *ticker) open(s *Store, o Options) {
	t.store, t.clock, t.log = s, o.Tick, o.Log
	if t.log == nil {
		t.log = slog.Default()
	}
	every := o.ReconcileEvery
	if every == 0 {
		every = defaultReconcileEvery
	}
	t.horizon = formatSpan(every + slack)
}

// wake has the tick turned on and does not wait for it. When that fails, the
// next step that comes by or the next reconcile does it.
func (t *ticker) wake(ctx context.Context) {
	if t.clock == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted = true
	if t.awake {
		return
	}
	t.awake = true
	t.waking.Go(func() {
		for t.takeWanted() {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnTimeout)
			if err := t.on(bounded); err != nil {
				t.log.ErrorContext(ctx, "the fast tick stays off for now, and instances end late", "error", err)
			}
			cancel()
		}
	})
}

func (t *ticker) takeWanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.awake = t.wanted
	t.wanted = false
	return t.awake
}

// on turns the tick on, unless it is recorded to be.
func (t *ticker) on(ctx context.Context) error {
	for range turnAttempts {
		now, err := t.run(ctx)
		if err != nil || now.state() == "on" {
			return err
		}
		if err := t.clock.On(ctx); err != nil {
			return fmt.Errorf("turn the fast tick on: %w", err)
		}
		after, err := t.run(ctx, "to", "on", "turn", now.turn())
		if err != nil || after.status() == "ok" {
			return err
		}
	}
	return errors.New("turn the fast tick on: it was turned off each time")
}

// off turns the tick off, unless something is due.
func (t *ticker) off(ctx context.Context) error {
	before, err := t.run(ctx, "to", "off", "unless", "due")
	if err != nil {
		return err
	}
	if before.status() == "due" {
		return t.on(ctx)
	}
	if err := t.clock.Off(ctx); err != nil {
		return fmt.Errorf("turn the fast tick off: %w", err)
	}
	after, err := t.run(ctx, "to", "off", "unless", "due")
	if err != nil || after.status() == "ok" {
		return err
	}
	return t.mend(ctx)
}

// mend turns the tick on, whatever is recorded. Until that is done it is
// recorded to be off, so that nobody relies on it.
func (t *ticker) mend(ctx context.Context) error {
	if _, err := t.run(ctx, "to", "off"); err != nil {
		return err
	}
	return t.on(ctx)
}

// A tickReply is how the tick stands, after a change if one was asked for.
type tickReply struct{ reply }

func (r tickReply) state() string { return r.text(1) }
func (r tickReply) turn() string  { return r.text(2) }
func (r tickReply) due() bool     { return r.text(3) == "1" }

func (t *ticker) run(ctx context.Context, args ...any) (tickReply, error) {
	r, err := t.store.run(ctx, call{"tick", dueKey, append([]any{"horizon", t.horizon}, args...)})
	return tickReply{r}, err
}

// RestTick turns the fast tick off unless something is due before reconcile
// comes again; see [ctf.DueReader]. When somebody else is at it, it leaves it
// to him.
func (s *Store) RestTick(ctx context.Context) error {
	if s.tick.clock == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnTimeout)
	defer cancel()
	lock, err := redislock.New(s.client).Obtain(ctx, tickLeaseKey, tickLease, nil)
	if errors.Is(err, redislock.ErrNotObtained) {
		return nil
	}
	if err != nil {
		return failure(ctx, "take the lease of the tick", err)
	}
	defer release(context.WithoutCancel(ctx), lock)
	return s.tick.off(ctx)
}

// RepairTick makes the fast tick what it should be, see [ctf.Auditor]: on if
// something is due before reconcile comes again. A tick that is recorded to be
// on is turned on as well, and left for expire to turn off.
func (s *Store) RepairTick(ctx context.Context) error {
	if s.tick.clock == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnTimeout)
	defer cancel()
	now, err := s.tick.run(bounded)
	if err != nil {
		return err
	}
	if now.due() || now.state() == "on" {
		return s.tick.mend(bounded)
	}
	return s.RestTick(ctx)
}
