package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// lockWait is how long a directory may still be in use by a run that is just
// ending.
const lockWait = 15 * time.Second

// A dataDirectory is where `mayfly run` keeps what must outlive it. One process
// uses it at a time.
type dataDirectory struct {
	path string
	lock *os.File
}

// errHeld says that another process uses a data directory.
var errHeld = errors.New("another mayfly uses it")

// openDirectory makes the directory if needed and waits for its lock. It tells
// what it waits for.
func openDirectory(ctx context.Context, path string, diagnostics io.Writer) (*dataDirectory, error) {
	deadline := time.Now().Add(lockWait)
	for tries := 0; ; tries++ {
		d, err := takeDirectory(path)
		switch {
		case !errors.Is(err, errHeld):
			return d, err
		case time.Now().After(deadline):
			return nil, fmt.Errorf("another mayfly runs on %s; stop it, or choose another directory with --dir", path)
		}
		if tries == 0 {
			fmt.Fprintf(diagnostics, "Another mayfly uses %s; waiting for it to end.\n", path)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takeDirectory makes the directory if needed and locks it, or returns errHeld.
func takeDirectory(path string) (*dataDirectory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &dataDirectory{path: path, lock: lock}, nil
	}
	lock.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errHeld
	}
	return nil, fmt.Errorf("lock the data directory: %w", err)
}

// join returns the path of something in the directory.
func (d *dataDirectory) join(name string) string { return filepath.Join(d.path, name) }

// keys returns the keys of MAYFLY_KEYS, or else those kept in the directory,
// which are made at the first run.
func (d *dataDirectory) keys(fromEnvironment string) (*redis.Keyring, error) {
	if fromEnvironment != "" {
		return redis.ParseKeys(fromEnvironment)
	}
	path := d.join("keys")
	kept, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		kept = []byte(redis.NewKey())
		err = writeOnce(path, kept)
	}
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return redis.ParseKeys(string(kept))
}

// writeOnce writes a file that is there as a whole or not at all.
func writeOnce(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
