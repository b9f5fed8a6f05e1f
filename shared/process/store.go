package process

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Ports are taken below the range from which Linux takes those of outgoing
// connections, so that none of them gets in between our look and the bind of
// the program.
const (
	firstPort = 20000
	lastPort  = 32000
)

// A store is the directory of all programs: <root>/<identity>/<name>.
type store struct {
	root  string
	limit int
}

// place finds a resource by its id or, without one, by its URN, of which only
// the stack, the type and the name count: a project may be renamed.
func (s *store) place(id resource.ID, urn resource.URN) (place, error) {
	identity, name := string(urn.Stack()), directoryName(string(urn.QualifiedType()), urn.Name())
	if id != "" {
		identity, name, _ = strings.Cut(string(id), "/")
	}
	if !safeName(identity) || !safeName(name) {
		return place{}, fmt.Errorf("no program can have the id %q", identity+"/"+name)
	}
	return place{root: s.root, identity: identity, name: name}, nil
}

// directoryName makes any name fit for a directory, and keeps names apart that
// look the same after that.
func directoryName(qualifiedType, name string) string {
	unsafe := regexp.MustCompile(`[^A-Za-z0-9_-]+`)
	short := unsafe.ReplaceAllString(name, "-")
	sum := sha256.Sum256([]byte(qualifiedType + "\x00" + name))
	return fmt.Sprintf("%.40s-%s", short, hex.EncodeToString(sum[:4]))
}

func safeName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.HasPrefix(s, ".") && filepath.IsLocal(s) &&
		!strings.ContainsAny(s, "/\x00")
}

// reserve makes the directory of a program and records its marker and port. It
// is refused with a kind Exhausted error when there are too many programs.
func (s *store) reserve(ctx context.Context, pl place, challenge ctf.ChallengeKey) (record, error) {
	boot, err := bootID()
	if err != nil {
		return record{}, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return record{}, err
	}
	defer unlock()
	count, ports, err := s.taken()
	if err != nil {
		return record{}, err
	}
	if count >= s.limit {
		return record{}, ctf.LimitReached(fmt.Sprintf("%d processes exist, and no more are allowed", count))
	}
	port, err := freePort(ctx, ports)
	if err != nil {
		return record{}, err
	}
	if err := os.MkdirAll(pl.work(), 0o700); err != nil {
		return record{}, fmt.Errorf("make the directory of %s: %w", pl.id(), err)
	}
	rec := record{
		Marker: rand.Text(), Port: port, BootID: boot,
		Tenant: challenge.Tenant, Challenge: challenge.ID, MadeAt: time.Now(),
	}
	return rec, pl.save(rec)
}

// lock waits for the lock of the whole store, which is held for milliseconds.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of processes: %w", err)
	}
	file, err := lock(ctx, filepath.Join(s.root, ".lock"))
	if err != nil {
		return nil, fmt.Errorf("lock processes: %w", err)
	}
	return func() { file.Close() }, nil
}

// lock waits for the lock on a file, which it makes if need be. It is held until
// the file is closed, by us and by every child that has not begun its program.
func lock(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			err = pause(ctx, 2*time.Millisecond)
		}
		if err != nil {
			file.Close()
			return nil, err
		}
	}
}

// taken counts the programs and collects their ports.
func (s *store) taken() (count int, ports map[int]bool, err error) {
	ports = make(map[int]bool)
	names, err := s.identities()
	if err != nil {
		return 0, nil, fmt.Errorf("list processes: %w", err)
	}
	for _, identity := range names {
		places, err := s.placesOf(identity)
		if err != nil {
			return 0, nil, fmt.Errorf("list processes: %w", err)
		}
		for _, pl := range places {
			// A directory without a readable record counts, and has no port.
			rec, _, _ := pl.load()
			ports[rec.Port] = true
			count++
		}
	}
	return count, ports, nil
}

func (s *store) identities() ([]string, error) { return directories(s.root) }

func (s *store) placesOf(identity string) ([]place, error) {
	if !safeName(identity) {
		return nil, fmt.Errorf("%q is no identity", identity)
	}
	names, err := directories(filepath.Join(s.root, identity))
	places := make([]place, 0, len(names))
	for _, n := range names {
		places = append(places, place{root: s.root, identity: identity, name: n})
	}
	return places, err
}

// remove deletes the directory of a program, and that of its identity with the
// last one.
func (s *store) remove(ctx context.Context, pl place) error {
	if err := removeAll(pl.dir()); err != nil {
		return fmt.Errorf("remove the directory of %s: %w", pl.id(), err)
	}
	return s.removeIdentity(ctx, pl.identity)
}

// removeIdentity deletes the directory of an identity if it is empty. The lock
// keeps it from going while reserve makes another in it.
func (s *store) removeIdentity(ctx context.Context, identity string) error {
	dir := filepath.Join(s.root, identity)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove the directory of %s: %w", identity, err)
	}
	return nil
}

// removeAll deletes a tree in which a program may have taken our rights away.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// directories returns the names of the directories in dir that are ours. A dir
// that is not there has none.
func directories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && safeName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// freePort returns a loopback port that nobody listens on and that is not in
// taken.
func freePort(ctx context.Context, taken map[int]bool) (int, error) {
	var config net.ListenConfig
	for range 1000 {
		port := firstPort + mathrand.IntN(lastPort-firstPort)
		if taken[port] {
			continue
		}
		listener, err := config.Listen(ctx, "tcp", address(port))
		if err != nil {
			continue
		}
		listener.Close()
		return port, nil
	}
	return 0, ctf.LimitReached(fmt.Sprintf("no free port between %d and %d", firstPort, lastPort))
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// pause waits, or returns why the context ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
