// Package backup keeps an installation in a file: all challenges and instances,
// as their records are. It knows the file, its encryption and package redis,
// which reads and writes the records; it knows no verb and no engine.
//
// What is consistent with what, and what is left out, is told in
// shared/docs/decisions/0010-backup.md.
package backup

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// A Count says how much was written or restored.
type Count struct{ Challenges, Instances int }

// ErrNothing says that Redis has no installation to back up.
var ErrNothing = errors.New("this Redis holds no installation of Mayfly")

// Write writes all that the store has, sealed with the key unless that is nil.
// What is written is of use only if Write returns no error. It calls tell with
// what it wrote so far, after each challenge.
func Write(ctx context.Context, to io.Writer, store *redis.Store, key *redis.Keyring, tell func(Count)) (Count, error) {
	h, err := newHeader(ctx, store)
	if err != nil {
		return Count{}, err
	}
	buffered := bufio.NewWriter(to)
	sealed, err := sealing(buffered, key)
	if err != nil {
		return Count{}, err
	}
	e, err := newEncoder(sealed, h)
	if err != nil {
		return Count{}, err
	}
	var done Count
	for snapshot, err := range store.Snapshots(ctx) {
		if err != nil {
			return done, err
		}
		if err := e.challenge(snapshot); err != nil {
			return done, fmt.Errorf("write the backup: %w", err)
		}
		done.Challenges++
		done.Instances += len(snapshot.Instances)
		tell(done)
	}
	if err := errors.Join(e.end(), sealed.Close(), buffered.Flush()); err != nil {
		return done, fmt.Errorf("write the backup: %w", err)
	}
	return done, nil
}

func newHeader(ctx context.Context, store *redis.Store) (header, error) {
	name, err := store.Named(ctx)
	if err != nil {
		return header{}, err
	}
	if name == "" {
		return header{}, ErrNothing
	}
	at, err := store.Clock(ctx)
	return header{Format: format, Version: version, ID: rand.Text(), Installation: name, At: at}, err
}
