package serve

import (
	"net/http"
	"sync"
	"time"
)

const (
	// flushWithin is how long a message of a stream waits for the next ones, so
	// that those which come together are sent together: sending one costs more
	// than making it.
	flushWithin = time.Millisecond
	// maxHeld is how many bytes of a stream wait at most.
	maxHeld = 16 << 10
)

// paced sends together what is flushed in quick succession. The first message
// of a stream does not wait, and no other waits longer than flushWithin.
func paced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &pacer{ResponseWriter: w}
		defer p.end()
		next.ServeHTTP(p, r)
	})
}

// A pacer holds back flushes. Until the first one it holds back nothing, so
// that headers are sent by who sets them.
type pacer struct {
	http.ResponseWriter

	mu     sync.Mutex
	stream bool   // something was flushed
	held   []byte // what was written since then, and is not sent
	// timer calls late within flushWithin if due. It is nil until it is needed.
	timer *time.Timer
	due   bool
	err   error // why something could not be sent
}

// Unwrap returns the writer below for [http.ResponseController].
func (p *pacer) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write writes a part of the answer. In a stream, an error may be that of an
// earlier part.
func (p *pacer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stream {
		return p.ResponseWriter.Write(b)
	}
	if p.held = append(p.held, b...); len(p.held) >= maxHeld {
		p.send()
	}
	return len(b), p.err
}

// Flush is FlushError for those who take no error.
func (p *pacer) Flush() { _ = p.FlushError() }

// FlushError has what was written sent soon.
func (p *pacer) FlushError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.stream:
		p.stream = true
		p.err = http.NewResponseController(p.ResponseWriter).Flush()
	case p.due || len(p.held) == 0:
	case p.timer == nil:
		p.due, p.timer = true, time.AfterFunc(flushWithin, p.late)
	default:
		p.due = true
		p.timer.Reset(flushWithin)
	}
	return p.err
}

// late sends what has waited long enough.
func (p *pacer) late() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due {
		p.send()
	}
}

// send sends what is held. The lock is held.
func (p *pacer) send() {
	p.due = false
	if p.err == nil {
		_, p.err = p.ResponseWriter.Write(p.held)
	}
	if p.err == nil {
		p.err = http.NewResponseController(p.ResponseWriter).Flush()
	}
	p.held = p.held[:0]
}

// end writes what is still held; the server sends it together with the end of
// the answer. Nothing is touched after that.
func (p *pacer) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = false
	if len(p.held) > 0 && p.err == nil {
		_, _ = p.ResponseWriter.Write(p.held) // Who asked has left; there is nobody to tell.
	}
}
