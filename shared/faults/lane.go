package faults

import (
	"fmt"
	"sync"
)

const (
	// perSource is how many calls are about one source, and unclear how many of
	// them may be unclear, before a new source takes its place: the search for an
	// order takes time that doubles with each call that may have happened.
	perSource = 30
	unclear   = 4
)

// A lane is a few clients that work on the same source, until it has seen enough.
type lane struct {
	mu             sync.Mutex
	name           string
	source         int
	calls, unclear int
}

// current is the source that the next call is about.
func (l *lane) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls++; l.calls > perSource || l.unclear >= unclear {
		l.source, l.calls, l.unclear = l.source+1, 1, 0
	}
	return fmt.Sprintf("%s-%d", l.name, l.source)
}

// note has another source come soon: one call about this one was unclear.
func (l *lane) note() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unclear++
}
