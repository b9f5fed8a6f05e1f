package engine

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the machine's monotonic clock in nanoseconds, the same in every
// process.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(fmt.Sprintf("the machine has no monotonic clock: %v", err))
	}
	return t.Nano()
}

// onMonotonic translates a time that carries Go's monotonic reading.
func onMonotonic(t time.Time) int64 { return monotonic() + int64(time.Until(t)) }

// A stopwatch counts the time in which nobody works for the program.
type stopwatch struct {
	mu      sync.Mutex
	working int
	since   time.Time
	spent   time.Duration
}

func newStopwatch() *stopwatch { return &stopwatch{since: time.Now()} }

// pause stops the watch until the function it returns is called. Pauses may
// overlap.
func (s *stopwatch) pause() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working == 0 {
		s.spent += time.Since(s.since)
	}
	s.working++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.working--
		if s.working == 0 {
			s.since = time.Now()
		}
	}
}

// elapsed is the time outside pauses.
func (s *stopwatch) elapsed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.working > 0 {
		return s.spent
	}
	return s.spent + time.Since(s.since)
}
