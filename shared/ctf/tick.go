package ctf

import "context"

// A Tick is the fast clock that wakes expire: every ten seconds while it is on,
// and never to speak of while it is off. Each call returns once the clock is
// told; it hears of it within seconds. Both may be repeated, in any order, and
// the last one holds.
type Tick interface {
	On(ctx context.Context) error
	Off(ctx context.Context) error
}
