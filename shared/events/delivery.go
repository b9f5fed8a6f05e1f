package events

import (
	"context"
	"fmt"
	"sync"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A delivery is the emptying of one outbox: each sink is given the events on
// its own, and what all of them took is removed. It remembers who took what,
// so that one sink's refusal repeats nothing at the others.
type delivery struct {
	key      ctf.ChallengeKey
	progress []*progress // by sink

	mu sync.Mutex // held while the outbox is read or written, so that both see one state
	// pending is what the outbox held when it was last read.
	pending []ctf.Event
}

// A progress is how far the delivery to one sink is. The Publisher's lock
// guards the first two.
type progress struct {
	running, again bool
	taken          map[string]bool // ids that the outbox may still hold
}

func newDelivery(key ctf.ChallengeKey, sinks int) *delivery {
	d := &delivery{key: key, progress: make([]*progress, sinks)}
	for n := range d.progress {
		d.progress[n] = &progress{taken: map[string]bool{}}
	}
	return d
}

func (d *delivery) idle() bool {
	for _, at := range d.progress {
		if at.running {
			return false
		}
	}
	return true
}

// next returns the events that a sink has not taken yet, oldest first.
func (d *delivery) next(ctx context.Context, outbox ctf.Outbox, sink int) ([]ctf.Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.pending, err = outbox.Pending(ctx, d.key); err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	var left []ctf.Event
	for _, e := range d.pending {
		if !d.progress[sink].taken[e.ID] {
			left = append(left, e)
		}
	}
	return left, nil
}

func (d *delivery) took(sink int, e ctf.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress[sink].taken[e.ID] = true
}

// clear removes what every sink took, and tells whether there was any.
func (d *delivery) clear(ctx context.Context, outbox ctf.Outbox) (removed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var done, left []ctf.Event
	for _, e := range d.pending {
		if d.everybodyTook(e) {
			done = append(done, e)
		} else {
			left = append(left, e)
		}
	}
	if len(done) == 0 {
		return false, nil
	}
	if err := outbox.Published(ctx, d.key, done); err != nil {
		return false, fmt.Errorf("empty outbox: %w", err)
	}
	d.pending = left
	for _, e := range done {
		for _, at := range d.progress {
			delete(at.taken, e.ID)
		}
	}
	return true, nil
}

func (d *delivery) everybodyTook(e ctf.Event) bool {
	for _, at := range d.progress {
		if !at.taken[e.ID] {
			return false
		}
	}
	return true
}
