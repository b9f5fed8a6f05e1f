// Package scenario brings scenarios from OCI registries to this machine: it
// resolves references, fetches and verifies content into a bounded cache on
// disk, makes it runnable, and pushes directories. It knows OCI artifacts,
// Pulumi project files and the Go toolchain; it never runs a scenario, and
// knows nothing of Pulumi's engine, of instances or of challenges.
package scenario

import "sync"

// Content is a scenario on this machine, ready to run. It stays on disk until
// Close. Its files are shared with every other user of the same digest and
// must not be changed.
type Content struct {
	// Dir is the absolute path of the directory with the scenario's files.
	Dir string
	// Project is the name in the Pulumi project file.
	Project string
	// Binary is the absolute path of the program to run; it may be executed.
	Binary string

	unpin func()
	once  sync.Once
}

// Close lets the cache drop the content when it needs the room. It may be
// called twice.
func (c *Content) Close() { c.once.Do(c.unpin) }
