package main_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A link stands between Mayfly and its Redis. It may be slow, be cut, and have
// Mayfly killed.
type link struct {
	address, to string
	kill        func()
	// slow is how long each command waits, and broken counts commands that waited
	// and connections that were cut.
	slow, broken atomic.Int64

	mu    sync.Mutex
	joins map[net.Conn]net.Conn
	// left is how many commands pass until Mayfly is killed; 0 is any number. Of the
	// last one Redis never hears if it is unsent.
	left   int
	unsent bool
	killed chan struct{}
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{address: listener.Addr().String(), to: to, joins: map[net.Conn]net.Conn{}}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { l.join(from) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		group.Wait()
	})
	return l
}

// join passes on what both sides say, until one of them ends.
func (l *link) join(from net.Conn) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	l.mu.Lock()
	l.joins[from] = to
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.joins, from)
	}()
	go func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	buffer := make([]byte, 1<<20)
	for {
		n, err := from.Read(buffer) // a command, or several that are sent together
		if err != nil {
			return
		}
		if wait := time.Duration(l.slow.Load()); wait > 0 {
			<-time.After(wait)
			l.broken.Add(1)
		}
		killed, unsent := l.count()
		if !unsent {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if killed != nil {
			l.kill()
			close(killed)
			return
		}
	}
}

// killAt has Mayfly killed once Redis has got as many more commands.
func (l *link) killAt(n int) (killed <-chan struct{}) { return l.strikeAt(n, false) }

// killBefore has it killed instead of the last of them being sent.
func (l *link) killBefore(n int) (killed <-chan struct{}) { return l.strikeAt(n, true) }

func (l *link) strikeAt(n int, unsent bool) (killed <-chan struct{}) {
	done := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.unsent, l.killed = n, unsent, done
	return done
}

// count returns what tells that Mayfly was killed, if this command is the last.
func (l *link) count() (killed chan<- struct{}, unsent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		return nil, false
	}
	if l.left--; l.left > 0 {
		return nil, false
	}
	return l.killed, l.unsent
}

// spare has Mayfly not be killed any more, and tells whether it is already.
func (l *link) spare() (late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	late = l.left == 0
	l.left = 0
	return late
}

// cut ends every connection. What was sent may have arrived, and its answer is
// lost.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from, to := range l.joins {
		_ = from.Close()
		_ = to.Close()
		l.broken.Add(1)
	}
}
