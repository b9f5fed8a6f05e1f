package apitest

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A home is where the services of instances report. So the suite sees what
// is deployed, pooled instances included, without asking the system.
type home struct {
	addr string
	mu   sync.Mutex
	// live counts the connections of each identity.
	live map[string]int
	// settled are the live ones that have run for a while, so that the system
	// knows by now that they do.
	settled map[string]bool
	// seen are all identities that ever reported.
	seen map[string]bool
}

func newHome(t *testing.T, s *suite) *home {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(s.target.Home, "0"))
	if err != nil {
		t.Fatal(err)
	}
	h := &home{addr: l.Addr().String(), live: map[string]int{}, settled: map[string]bool{}, seen: map[string]bool{}}
	var group sync.WaitGroup
	var conns []net.Conn
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			conns = append(conns, conn)
			h.mu.Unlock()
			group.Go(func() { h.attend(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		h.mu.Unlock()
		group.Wait()
	})
	return h
}

// attend counts a service for as long as its connection stands.
func (h *home) attend(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	identity := strings.TrimSpace(line)
	h.add(identity, 1)
	if _, err := reader.ReadString('\n'); err == nil {
		h.settle(identity)
		_, _ = reader.ReadByte() // It says no more; this ends with the service.
	}
	h.add(identity, -1)
}

func (h *home) settle(identity string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled[identity] = true
}

func (h *home) add(identity string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[identity] = true
	if h.live[identity] += n; h.live[identity] == 0 {
		delete(h.live, identity)
		delete(h.settled, identity)
	}
}

// running returns the identities whose service runs, sorted.
func (h *home) running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.live))
}

// started returns how many identities ever had a service.
func (h *home) started() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

// want waits until so many services run.
func (h *home) want(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d services run", n), func() bool { return len(h.running()) == n })
}

// wantPooled waits until so many services run, and have for a while: an
// instance enters the pool a moment after its service has started.
func (h *home) wantPooled(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d services have settled", n), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.live) == n && len(h.settled) == n
	})
}
