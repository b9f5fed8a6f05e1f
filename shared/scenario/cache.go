package scenario

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// A cache keeps content under its digest:
//
//	sha256/<hex>/entry.json   what the entry holds
//	sha256/<hex>/files/       the scenario's files
//	sha256/<hex>/program      what was compiled from them, if they were source
//	sha256/<hex>.lock         held shared by users, exclusively by who makes or
//	                          drops the entry; its time is that of the last use
//	sha256/<hex>.tmp/         an entry that is being made or dropped
//
// An entry appears and disappears by a rename, so what is there is whole.
type cache struct {
	dir string
	max int64 // bytes
}

// An entry is what the cache knows of one content.
type entry struct {
	Project string `json:"project"`
	// Program is the path of the program, relative to the entry; empty for a
	// manifest.
	Program string `json:"program"`
	// Size is that of all files, in bytes.
	Size int64 `json:"size"`
}

const (
	entryFile = "entry.json"
	filesDir  = "files"
	built     = "program"
	// maxEntry is above what any entry has, in bytes, and low enough for a sum.
	maxEntry = 1 << 40
)

// newCache opens the cache in dir and removes what interrupted work left.
func newCache(dir string, limit int64) (*cache, error) {
	if dir == "" {
		return nil, errors.New("no directory is given")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "sha256"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &cache{dir: dir, max: limit}
	if err := c.clean(); err != nil {
		return nil, err
	}
	return c, c.evict()
}

func (c *cache) path(d digest.Digest) string      { return filepath.Join(c.dir, d.Encoded()) }
func (c *cache) lockPath(d digest.Digest) string  { return c.path(d) + ".lock" }
func (c *cache) stagePath(d digest.Digest) string { return c.path(d) + ".tmp" }

// open pins the entry and returns it, or fs.ErrNotExist.
func (c *cache) open(ctx context.Context, d digest.Digest) (*Content, error) {
	pin, err := lock(ctx, c.lockPath(d), shared)
	if err != nil {
		return nil, err
	}
	e, err := c.read(d)
	if err != nil {
		_ = pin.Close()
		return nil, err
	}
	now := time.Now()
	_ = os.Chtimes(pin.Name(), now, now) // the order of eviction is a hint
	dir := c.path(d)
	content := &Content{
		Dir:      filepath.Join(dir, filesDir),
		Project:  e.Project,
		Manifest: e.Program == "",
		unpin:    func() { _ = pin.Close() },
	}
	if !content.Manifest {
		content.Binary = filepath.Join(dir, e.Program)
	}
	return content, nil
}

// read returns the entry. One that somebody tampered with counts as absent.
func (c *cache) read(d digest.Digest) (entry, error) {
	data, err := os.ReadFile(filepath.Join(c.path(d), entryFile))
	if err != nil {
		return entry{}, err
	}
	e, err := parseEntry(data)
	if err != nil {
		return entry{}, fmt.Errorf("%w: damaged entry: %w", fs.ErrNotExist, err)
	}
	needed := cmp.Or(e.Program, path.Join(filesDir, manifest.File))
	info, err := os.Lstat(filepath.Join(c.path(d), needed))
	if err != nil {
		return entry{}, err
	}
	if !info.Mode().IsRegular() {
		return entry{}, fmt.Errorf("%w: damaged entry: %s is no file", fs.ErrNotExist, needed)
	}
	return e, nil
}

// parseEntry refuses what prepare did not write: who uses the entry is led to
// its files, and to none elsewhere.
func parseEntry(data []byte) (entry, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return entry{}, err
	}
	within := strings.HasPrefix(e.Program, filesDir+"/") && filepath.IsLocal(e.Program) && path.Clean(e.Program) == e.Program
	switch {
	case !projectName.MatchString(e.Project):
		return entry{}, fmt.Errorf("the project is %.100q", e.Project)
	case e.Program != "" && e.Program != built && !within:
		return entry{}, fmt.Errorf("the program is %.100q", e.Program)
	case e.Size < 0 || e.Size > maxEntry:
		return entry{}, fmt.Errorf("the size is %d", e.Size)
	}
	return e, nil
}

// add makes the entry by fill, which gets an empty directory, unless somebody
// else made it meanwhile. Only one at a time is at it, over all processes.
func (c *cache) add(ctx context.Context, d digest.Digest, fill func(dir string) (entry, error)) error {
	held, err := lock(ctx, c.lockPath(d), exclusive)
	if err != nil {
		return err
	}
	defer held.Close()
	if _, err := c.read(d); err == nil {
		return nil
	}
	stage := c.stagePath(d)
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(stage) }() // else the next New does it
	if err := os.MkdirAll(filepath.Join(stage, filesDir), 0o755); err != nil {
		return err
	}
	e, err := fill(stage)
	if err != nil {
		_ = os.Remove(held.Name()) // or a lock would be left for all that ever failed
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, entryFile), data, 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(c.path(d)); err != nil { // a damaged one
		return err
	}
	return os.Rename(stage, c.path(d))
}

// evict drops the least recently used entries until the rest fits, but none
// that is in use.
func (c *cache) evict() error {
	type candidate struct {
		digest digest.Digest
		size   int64
		used   time.Time
	}
	var all []candidate
	var total int64
	err := c.each("", func(d digest.Digest) error {
		e, broken := c.read(d)
		info, unlocked := os.Stat(c.lockPath(d))
		// Others are on their way out, or replaced by the next fetch.
		if broken == nil && unlocked == nil {
			all = append(all, candidate{d, e.Size, info.ModTime()})
			total += e.Size
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(string(a.digest), string(b.digest)))
	})
	for _, one := range all {
		if total <= c.max {
			break
		}
		err := c.drop(one.digest)
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			return err
		}
		total -= one.size
	}
	return nil
}

// drop removes the entry and what is left of one, or returns errLocked.
func (c *cache) drop(d digest.Digest) error {
	held, err := tryLock(c.lockPath(d), exclusive)
	if err != nil {
		return err
	}
	defer held.Close()
	stage := c.stagePath(d)
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := os.Rename(c.path(d), stage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	// Last: from now on another may hold a new lock.
	return os.Remove(c.lockPath(d))
}

// clean removes what interrupted work left.
func (c *cache) clean() error {
	return c.each(".tmp", func(d digest.Digest) error {
		held, err := tryLock(c.lockPath(d), exclusive)
		if errors.Is(err, errLocked) {
			return nil
		}
		if err != nil {
			return err
		}
		defer held.Close()
		return os.RemoveAll(c.stagePath(d))
	})
}

// each calls f with the digest of every directory named <hex><suffix>.
func (c *cache) each(suffix string, f func(digest.Digest) error) error {
	found, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, one := range found {
		hex, ok := strings.CutSuffix(one.Name(), suffix)
		d := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !ok || !one.IsDir() || d.Validate() != nil {
			continue
		}
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}
