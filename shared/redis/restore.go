package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A restore fills an empty Redis. Until it is done, the installation's name is
// restoring and what is being restored: nobody takes what runs for orphans, and
// whoever wants the name is told to wait. Challenges appear one by one, each in
// one step. What died in the middle is begun again, and goes on.

const restoring = "restoring "

// ErrInUse says that a Redis can't be restored into, because it holds something
// already.
var ErrInUse = errors.New("this Redis is in use")

// errLost: it was not saved, or somebody emptied it.
var errLost = errors.New("redis has lost a part of what was restored; empty it and begin anew")

// errRestoring says that a restore did not end.
func errRestoring() error {
	return &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable, Message: "A backup is being restored.",
		Detail: "if nobody is at it, restore the same backup again"}
}

// BeginRestore takes an empty Redis for a backup, or one in which restoring the
// same backup was begun. Else it returns ErrInUse.
func (s *Store) BeginRestore(ctx context.Context, backup string) error {
	named, err := s.readName(ctx)
	if err != nil {
		return err
	}
	if named == "" {
		if err := s.wantEmpty(ctx); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if err := s.client.SetNX(bounded, installationKey, restoring+backup, 0).Err(); err != nil {
			return failure(ctx, "begin to restore", err)
		}
		if named, err = s.readName(ctx); err != nil {
			return err
		}
	}
	switch {
	case named == restoring+backup:
		return nil
	case strings.HasPrefix(named, restoring):
		return fmt.Errorf("%w: another backup was begun to be restored; go on with that one, or empty Redis first", ErrInUse)
	}
	return fmt.Errorf("%w by the installation %s; restore into an empty one", ErrInUse, named)
}

// sameInstallation returns an error if Redis is not, or not yet again, the one
// that this store began with. What runs is then not without a record.
func (s *Store) sameInstallation(ctx context.Context) error {
	named, err := s.Named(ctx)
	if err != nil {
		return err
	}
	if before := s.installation.Load(); before != nil && *before != named {
		return fmt.Errorf("redis has the records of the installation %q, and had those of %q: it was emptied or replaced; if that is meant to be, start this function anew", named, *before)
	}
	return nil
}

// Named returns the name that [Store.Installation] gave, "" if it did not yet.
func (s *Store) Named(ctx context.Context) (string, error) {
	named, err := s.readName(ctx)
	if strings.HasPrefix(named, restoring) {
		return "", errRestoring()
	}
	return named, err
}

func (s *Store) readName(ctx context.Context) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name, err := s.client.Get(bounded, installationKey).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return name, failure(ctx, "read the installation's name", err)
}

// wantEmpty returns ErrInUse if Redis has any key of ours. Other keys may be
// there.
func (s *Store) wantEmpty(ctx context.Context) error {
	look := func(ctx context.Context, server *redis.Client) error {
		all := server.Scan(ctx, 0, "*mayfly:*", 1000).Iterator()
		for all.Next(ctx) {
			if k := all.Val(); strings.HasPrefix(k, "mayfly:") || strings.HasPrefix(k, "{"+dueKey+"}") {
				return fmt.Errorf("%w: it has %s; restore into an empty one", ErrInUse, k)
			}
		}
		return all.Err()
	}
	var err error
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, client)
	}
	if errors.Is(err, ErrInUse) {
		return err
	}
	return failure(ctx, "look whether Redis is empty", err)
}

// RestoreInstances writes instances of a challenge that is not there yet. It
// may be called again. What had a lease before can't write under it any more.
func (s *Store) RestoreInstances(ctx context.Context, challenge ctf.ChallengeKey, instances []InstanceSnapshot) error {
	calls := make([]call, len(instances))
	for n, i := range instances {
		record, err := raised(i.Record, "fence", "revision")
		if err != nil {
			return fmt.Errorf("restore instance %s: %w", i.Identity(), err)
		}
		args := pairs([]any{"identity", i.Identity(), "base", i.Base}, "name", "value", record)
		calls[n] = call{"restore_instance", challengePrefix(challenge), list(args, "entry", i.Journal)}
	}
	_, err := s.runAll(ctx, calls)
	return err
}

// RestoreChallenge makes a challenge appear whose instances are restored, and
// every index lead to it. The instances of the snapshot need no more than their
// identities. What was in the pool is to be destroyed, because a source may have
// claimed it after the snapshot. It may be called again, and then changes nothing.
func (s *Store) RestoreChallenge(ctx context.Context, challenge ctf.ChallengeKey, c Snapshot, instances []string) error {
	record, err := raised(c.Challenge, "revision")
	if err != nil {
		return fmt.Errorf("restore challenge %s: %w", challenge.ID, err)
	}
	args := pairs([]any{"incarnation", record["incarnation"]}, "name", "value", record)
	args = list(args, "identity", instances)
	args = pairs(args, "source", "held", c.Sources)
	args = list(args, "pooled", c.Pooled)
	args = pairs(args, "deleting", "from", c.Deleting)
	r, err := s.run(ctx, call{"restore_challenge", challengePrefix(challenge), args})
	if err != nil {
		return err
	}
	switch r.status() {
	case "ok", "there":
		return s.RepairIndexes(ctx, challenge)
	case "taken":
		return fmt.Errorf("%w: challenge %s was created in it meanwhile; stop what uses it, empty it, and begin anew", ErrInUse, challenge.ID)
	case "incomplete":
		return errLost
	}
	return unexpected("restore_challenge", r)
}

// EndRestore gives the installation its name, by which everything that runs is
// found.
func (s *Store) EndRestore(ctx context.Context, backup, installation string) error {
	r, err := s.run(ctx, call{"restored", installationKey, []any{"restoring", restoring + backup, "name", installation}})
	if err != nil {
		return err
	}
	if r.status() == "lost" {
		return errLost
	}
	return nil
}

// raised returns a record in which numbers go on far beyond those that somebody
// may still hold from before: whoever had a lease then has none, and an event is
// not taken for one of the same number. Each restore goes on elsewhere. Scripts
// write numbers to the digit up to 10^14, so that there is room for thousands
// of restores.
func raised(record map[string]string, names ...string) (map[string]string, error) {
	const least, most, exact = 1 << 20, 1 << 32, 1e14
	record = maps.Clone(record)
	for _, name := range names {
		number, err := parseNumber(record[name])
		if err == nil && (number < 0 || number > exact-most) {
			err = fmt.Errorf("it is %d", number)
		}
		if err != nil {
			return nil, fmt.Errorf("read the field %s: %w", name, err)
		}
		record[name] = strconv.FormatInt(number+least+rand.Int64N(most-least), 10)
	}
	return record, nil
}
