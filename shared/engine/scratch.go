package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// scratchSize is how many bytes a program may write: in all, and to a file.
	scratchSize = 4 << 20
	// scratchBlock is what an entry takes, beside its bytes.
	scratchBlock = 4 << 10
)

var errTooMuch = fmt.Errorf("the program wrote more than %d MiB to its temporary directory", scratchSize>>20)

// A scratch is a directory to which one run of a program may write a little;
// see decision 4.
type scratch string

// newScratch makes one in a directory, or in that for temporary files if it is "".
func newScratch(in string) (scratch, error) {
	dir, err := os.MkdirTemp(in, "scenario-")
	if err != nil {
		return "", fmt.Errorf("make a temporary directory for the program: %w", err)
	}
	return scratch(dir), nil
}

// emptyScratch makes the directory for scratches, without what is in it.
func emptyScratch(dir string) error {
	if dir == "" {
		return nil
	}
	scratch(dir).remove()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for what programs write: %w", err)
	}
	return nil
}

// check returns errTooMuch if there is more than there may be.
func (s scratch) check() error {
	size := 0
	return filepath.WalkDir(string(s), func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("the temporary directory of the program can't be read: %w", err)
		}
		size += scratchBlock
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += int(info.Size())
		}
		if size > scratchSize {
			return errTooMuch
		}
		return nil
	})
}

// remove deletes the directory, in which the program may have taken our rights
// away. Whoever wrote in it is killed by now.
func (s scratch) remove() {
	if os.RemoveAll(string(s)) == nil {
		return
	}
	_ = filepath.WalkDir(string(s), func(path string, e fs.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(string(s))
}
