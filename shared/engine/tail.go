package engine

import (
	"bytes"
	"slices"
	"sync"
)

// A tail is a writer that keeps the last bytes it was given, and never fails.
type tail struct {
	mu    sync.Mutex
	limit int
	kept  []byte
}

// Write keeps the end of p.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if surplus := len(t.kept) - t.limit; surplus > 0 {
		t.kept = append(t.kept[:0], t.kept[surplus:]...)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// A transcript keeps the end of what a program prints, and the line that says
// why it crashed: a Go program's stack traces may push that out of the end.
type transcript struct {
	tail
	line  []byte // the last, still incomplete one, up to maxLine
	crash string
}

// maxLine is how much of a line is looked at, in bytes.
const maxLine = 1 << 10

// Write looks for the first line of a crash and keeps the end of p.
func (t *transcript) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, complete := bytes.Cut(rest, []byte("\n"))
		t.line = append(t.line, line[:min(len(line), maxLine-len(t.line))]...)
		if complete {
			if t.crash == "" && beginsCrash(t.line) {
				t.crash = string(t.line)
			}
			t.line = t.line[:0]
		}
		rest = after
	}
	return t.tail.Write(p)
}

// How Go programs begin to crash.
const (
	panicPrefix = "panic: "
	fatalPrefix = "fatal error: "
	// bigFilePrefix is that of the signal for a file beyond the limit.
	bigFilePrefix = "SIGXFSZ: "
)

func beginsCrash(line []byte) bool {
	return slices.ContainsFunc([]string{panicPrefix, fatalPrefix, bigFilePrefix}, func(prefix string) bool {
		return bytes.HasPrefix(line, []byte(prefix))
	})
}
