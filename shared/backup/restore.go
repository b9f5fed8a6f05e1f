package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

const (
	// pageSize and pageBytes bound what is held and sent to Redis in one go.
	pageSize  = 100
	pageBytes = 4 << 20
)

// ErrOtherKeys says that the store lacks a key with which the installation
// sealed what is secret.
var ErrOtherKeys = errors.New("these are not all the keys of the installation that was backed up")

// Restore fills an empty Redis with a backup. It reads the backup twice: unless
// all of it is as it was written, and can be read with the keys of the store,
// nothing is changed. If it fails later it may be called again, with the same
// backup, and goes on. It calls tell with what is done so far and what is to be
// done in all.
func Restore(ctx context.Context, from io.ReadSeeker, store *redis.Store, key *redis.Keyring, tell func(done, all Count)) (Count, error) {
	var all Count
	checking := func(_ context.Context, _ header, d *decoder) error { return checkAll(d, store, &all) }
	if err := read(ctx, from, key, checking); err != nil {
		return Count{}, err
	}
	r := &restoration{store: store, tell: func(done Count) { tell(done, all) }}
	err := read(ctx, from, key, r.run)
	return r.done, err
}

// read reads a backup from its beginning.
func read(ctx context.Context, from io.ReadSeeker, key *redis.Keyring, use func(context.Context, header, *decoder) error) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	opened, err := opening(from, key)
	if err != nil {
		return err
	}
	d, h, err := newDecoder(opened)
	if err != nil {
		return err
	}
	return use(ctx, h, d)
}

// checkAll reads to the end, and whether each record can be read.
func checkAll(d *decoder, store *redis.Store, all *Count) error {
	var challenge ctf.ChallengeKey
	for {
		l, err := d.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case l.Challenge != nil:
			challenge, err = store.CheckChallenge(l.Challenge.snapshot())
			all.Challenges++
		default:
			err = store.CheckInstance(challenge, l.Instance.snapshot())
			all.Instances++
		}
		switch {
		case errors.Is(err, redis.ErrNewer):
			return fmt.Errorf("line %d: %w", d.lines, ErrNewer)
		case errors.Is(err, redis.ErrKeyUnknown):
			return fmt.Errorf("%w: line %d: %w", ErrOtherKeys, d.lines, err)
		case err != nil:
			return fmt.Errorf("the backup has a record that can't be read: line %d: %w", d.lines, err)
		}
	}
}

// A restoration writes what a decoder reads.
type restoration struct {
	store *redis.Store
	tell  func(Count)
	done  Count

	key       ctf.ChallengeKey
	snapshot  redis.Snapshot
	instances []string // all that the challenge had so far
	page      []redis.InstanceSnapshot
	bytes     int // of the page
}

func (r *restoration) run(ctx context.Context, h header, d *decoder) error {
	if err := r.store.BeginRestore(ctx, h.ID); err != nil {
		return err
	}
	for {
		l, err := d.next()
		if errors.Is(err, io.EOF) {
			return r.store.EndRestore(ctx, h.ID, h.Installation)
		}
		if err != nil {
			return err
		}
		if l.Challenge != nil {
			err = r.begin(*l.Challenge)
		} else {
			err = r.add(ctx, l.Instance.snapshot())
		}
		if err == nil && d.left == 0 {
			err = r.finish(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (r *restoration) begin(c challenge) (err error) {
	r.snapshot, r.instances = c.snapshot(), nil
	r.key, err = r.store.CheckChallenge(r.snapshot)
	return err
}

func (r *restoration) add(ctx context.Context, i redis.InstanceSnapshot) error {
	r.instances = append(r.instances, i.Identity())
	r.page = append(r.page, i)
	r.bytes += len(i.Base)
	for _, entry := range i.Journal {
		r.bytes += len(entry)
	}
	if len(r.page) < pageSize && r.bytes < pageBytes {
		return nil
	}
	return r.flush(ctx)
}

func (r *restoration) flush(ctx context.Context) error {
	if len(r.page) == 0 {
		return nil
	}
	if err := r.store.RestoreInstances(ctx, r.key, r.page); err != nil {
		return err
	}
	r.done.Instances += len(r.page)
	r.page, r.bytes = r.page[:0], 0
	r.tell(r.done)
	return nil
}

func (r *restoration) finish(ctx context.Context) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.store.RestoreChallenge(ctx, r.key, r.snapshot, r.instances); err != nil {
		return err
	}
	r.done.Challenges++
	r.tell(r.done)
	return nil
}
