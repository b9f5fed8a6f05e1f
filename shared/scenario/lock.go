package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked by another user")

// The two ways to hold a lock.
const (
	shared    = syscall.LOCK_SH
	exclusive = syscall.LOCK_EX
)

// lock waits for the lock at path until ctx ends. The lock is held, against
// goroutines and processes alike, until the file is closed.
func lock(ctx context.Context, path string, how int) (*os.File, error) {
	// The kernel's own waiting can't be interrupted.
	wait := 5 * time.Millisecond
	for {
		f, err := tryLock(path, how)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-time.After(wait):
			wait = min(2*wait, 200*time.Millisecond)
		}
	}
}

// tryLock takes the lock at path, or returns errLocked.
func tryLock(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Whoever held it may have removed the file, and the next one has made
		// another: a lock on a removed file excludes nobody.
		if isAt(f, path) {
			return f, nil
		}
		_ = f.Close()
	}
}

func isAt(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(held, there)
}
