package events

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// remembered is how many events one sink may be ahead of another: more than an
// outbox holds.
const remembered = 20_000

// A delivery is the emptying of one outbox: each sink is given the events on
// its own, from the oldest to the newest, and what all of them took is removed.
// It remembers who took what, so that one sink's refusal repeats nothing at the
// others, nor keeps them from what came later.
type delivery struct {
	key      ctf.ChallengeKey
	progress []*progress // by sink

	mu sync.Mutex // guards what was taken, and is held while that is removed
}

// A progress is how far the delivery to one sink is.
type progress struct {
	running, again bool // the Publisher's lock guards them

	// left was read up to a position of the outbox and is not taken yet. Only who
	// runs the delivery to the sink looks at it.
	left   []ctf.Event
	readTo string

	taken map[string]ctf.Event // by id: those that the outbox may still hold
}

func newDelivery(key ctf.ChallengeKey, sinks int) *delivery {
	d := &delivery{key: key, progress: make([]*progress, sinks)}
	for n := range d.progress {
		d.progress[n] = &progress{taken: map[string]ctf.Event{}}
	}
	return d
}

func (d *delivery) idle() bool {
	return !slices.ContainsFunc(d.progress, func(at *progress) bool { return at.running })
}

// next returns events that a sink has not taken yet, oldest first.
func (d *delivery) next(ctx context.Context, outbox ctf.Outbox, sink int) ([]ctf.Event, error) {
	at := d.progress[sink]
	if len(at.left) == 0 {
		left, last, err := outbox.Pending(ctx, d.key, at.readTo)
		if err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		at.left, at.readTo = left, last
	}
	return at.left, nil
}

// took takes down that a sink took the first event that was left for it.
func (d *delivery) took(sink int, e ctf.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.progress[sink]
	at.left = at.left[1:]
	if len(at.taken) == remembered {
		clear(at.taken) // the outbox drops them by itself, if it has not yet
	}
	at.taken[e.ID] = e
}

// clear removes what every sink took.
func (d *delivery) clear(ctx context.Context, outbox ctf.Outbox) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fewest := slices.MinFunc(d.progress, func(a, b *progress) int { return cmp.Compare(len(a.taken), len(b.taken)) })
	var done []ctf.Event
	for _, e := range fewest.taken {
		if d.everybodyTook(e) {
			done = append(done, e)
		}
	}
	if len(done) == 0 {
		return nil
	}
	if err := outbox.Published(ctx, d.key, done); err != nil {
		return fmt.Errorf("empty outbox: %w", err)
	}
	for _, e := range done {
		for _, at := range d.progress {
			delete(at.taken, e.ID)
		}
	}
	return nil
}

func (d *delivery) everybodyTook(e ctf.Event) bool {
	for _, at := range d.progress {
		if _, taken := at.taken[e.ID]; !taken {
			return false
		}
	}
	return true
}
