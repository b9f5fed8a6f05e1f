package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// dialTimeout bounds one try to connect. A resolver waits five seconds for an
	// answer that was lost; the next try asks again.
	dialTimeout = time.Second
	idleTimeout = 90 * time.Second
	// A connection that is silent for silentFor is asked whether it still stands,
	// and given up if it does not answer within answerWithin. Else calls would
	// wait for a machine that is gone.
	silentFor    = 15 * time.Second
	answerWithin = 10 * time.Second
	// maxInFlight is how much of one answer in bytes is on its way through at
	// most; a function whose caller is slower waits.
	maxInFlight = 256 << 10

	// The first and the longest pause between two tries to connect.
	firstPause = 10 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// newTransport returns what reaches all functions: many calls at once on each
// connection, as gRPC needs it, and REST takes no harm.
func newTransport() *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:          protocols,
		DialContext:        (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression: true, // Whether answers are compressed is between caller and function.
		IdleConnTimeout:    idleTimeout,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: silentFor, PingTimeout: answerWithin, MaxReceiveBufferPerStream: maxInFlight,
		},
	}
}

// patient waits for functions that take no connections yet.
type patient struct {
	transport *http.Transport
	within    time.Duration
}

// RoundTrip tries again for as long as nothing could be sent.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	var late <-chan time.Time
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		attempt, err := fresh(r)
		if err != nil {
			return nil, err
		}
		res, err := p.transport.RoundTrip(attempt)
		if !neverSent(err) || unknownHost(err) {
			return res, err
		}
		if late == nil {
			timer := time.NewTimer(p.within)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		case <-late:
			return nil, err
		case <-time.After(pause):
		}
	}
}

// neverSent tells whether a request failed before any of it was sent.
func neverSent(err error) bool {
	failure, ok := errors.AsType[*net.OpError](err)
	return ok && failure.Op == "dial"
}

// unknownHost tells whether there is no such host: a function that is not
// installed, and not one that starts.
func unknownHost(err error) bool {
	failure, ok := errors.AsType[*net.DNSError](err)
	return ok && failure.IsNotFound
}

// fresh returns the request for one try, which may close its body. Who called
// RoundTrip closes the body itself.
func fresh(r *http.Request) (*http.Request, error) {
	if r.Body == nil {
		return r, nil
	}
	attempt := *r
	attempt.Body = io.NopCloser(r.Body)
	if r.GetBody == nil {
		return &attempt, nil
	}
	body, err := r.GetBody()
	attempt.Body = body
	return &attempt, err
}

// bufferSize is how much is copied at once, in bytes.
const bufferSize = 32 << 10

// buffers lends out memory for copying.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{pool: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get returns memory of any content.
func (b *buffers) Get() []byte {
	buffer, _ := b.pool.Get().(*[bufferSize]byte)
	return buffer[:]
}

// Put takes back what Get returned.
func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
