// Package scenario brings scenarios from OCI registries to this machine: it
// resolves references, fetches and verifies content into a bounded cache on
// disk, makes it runnable, and pushes directories. It knows OCI artifacts,
// Pulumi project files, manifests and the Go toolchain; it never runs a scenario, and
// knows nothing of Pulumi's engine, of instances or of challenges.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"
)

// DefaultMaxBytes is the bound of the cache when none is given: 10 GiB.
const DefaultMaxBytes = 10 << 30

var errClosed = errors.New("the scenario library is closed")

// Options say where a Library keeps content and how it reaches registries.
type Options struct {
	// CacheDir is where content is kept. It is made if it is missing, and may be
	// shared with other processes of this machine.
	CacheDir string
	// MaxBytes is the size above which content that is not in use is dropped,
	// the least recently used first; 0 is DefaultMaxBytes. Content in use may
	// exceed it.
	MaxBytes int64
	// Registries is how registries are reached.
	Registries Registries
}

// A Library resolves references and opens scenarios. It is safe for use by
// many goroutines.
type Library struct {
	registries *connector
	cache      *cache

	flights singleflight.Group
	// running is the life of the fetches: they outlive the callers that wait
	// for them, as the next caller wants the same content.
	running context.Context
	stop    context.CancelFunc
	mu      sync.Mutex
	closed  bool
	fetches sync.WaitGroup
}

// New returns a library over the cache in o.CacheDir, after removing what
// interrupted fetches left there. It fails if the credentials are incomplete or
// the directory can't be used.
func New(o Options) (*Library, error) {
	registries, err := newConnector(o.Registries)
	if err != nil {
		return nil, err
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	c, err := newCache(o.CacheDir, o.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("open the scenario cache: %w", err)
	}
	l := &Library{registries: registries, cache: c}
	l.running, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// Close ends the fetches that are under way and waits for them. Content that
// was opened stays usable until it is closed itself. Close may be called twice.
func (l *Library) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.fetches.Wait()
	l.registries.transport.CloseIdleConnections()
}

// begin registers a fetch that Close must wait for.
func (l *Library) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.fetches.Add(1)
	return true
}

// Content is a scenario on this machine, ready to run. It stays on disk until
// Close. Its files are shared with every other user of the same digest and
// must not be changed.
type Content struct {
	// Dir is the absolute path of the directory with the scenario's files.
	Dir string
	// Project is the name in the Pulumi project file or the manifest.
	Project string
	// Manifest says that the scenario is no program, but described by the
	// manifest in Dir, which was found to be right.
	Manifest bool
	// Binary is the absolute path of the program to run; it may be executed. A
	// program that was compiled here lies beside Dir, not in it. It is empty for
	// a manifest.
	Binary string

	unpin func()
	once  sync.Once
}

// Close lets the cache drop the content when it needs the room. It may be
// called twice.
func (c *Content) Close() { c.once.Do(c.unpin) }
