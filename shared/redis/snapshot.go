package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Snapshot is one challenge with all its instances at one moment, in Redis'
// own words: what is sealed stays so. Leases are none of it, nor is the outbox.
type Snapshot struct {
	// Challenge is its record.
	Challenge map[string]string
	// Sources leads from each source to the identity that it holds.
	Sources map[string]string
	// Pooled are the identities of the pool. A restore has it destroyed.
	Pooled []string
	// Deleting are the identities that are deleting, each with the time from
	// which somebody else may see to it.
	Deleting  map[string]string
	Instances []InstanceSnapshot
}

// An InstanceSnapshot is one instance of a [Snapshot].
type InstanceSnapshot struct {
	Record map[string]string
	// Base and Journal are its checkpoint, compressed and sealed.
	Base    string
	Journal []string
}

// Identity returns whose it is.
func (i InstanceSnapshot) Identity() string { return i.Record["identity"] }

// Clock returns the time by Redis' clock.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now, err := s.client.Time(bounded).Result()
	return now.Add(time.Duration(s.shift.Load())).UTC(), failure(ctx, "read the clock", err)
}

// Snapshots yields every challenge of every tenant, each once and as it was at
// a moment of its own. What comes or goes meanwhile may be among them or not.
// Redis answers nobody else while it reads one of them.
func (s *Store) Snapshots(ctx context.Context) iter.Seq2[Snapshot, error] {
	return sequence(func(yield func(Snapshot) error) error {
		for tenant, err := range s.Tenants(ctx) {
			if err != nil {
				return err
			}
			err := s.hints(ctx, challengesKey(tenant), func(page []string) ([]bool, error) {
				return s.yieldSnapshots(ctx, tenant, page, yield)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) yieldSnapshots(ctx context.Context, tenant ctf.Tenant, ids []string, yield func(Snapshot) error) ([]bool, error) {
	absent := make([]bool, len(ids))
	for n, id := range ids {
		key := ctf.ChallengeKey{Tenant: tenant, ID: ctf.ChallengeID(id)}
		r, err := s.run(ctx, call{"snapshot", challengePrefix(key), nil})
		if err != nil {
			return nil, fmt.Errorf("read challenge %s: %w", id, err)
		}
		if absent[n] = r.status() == "gone"; absent[n] {
			continue
		}
		if err := yield(readSnapshot(r)); err != nil {
			return nil, err
		}
	}
	return absent, nil
}

func readSnapshot(r reply) Snapshot {
	s := Snapshot{
		Challenge: r.fields(1), Sources: r.fields(2), Pooled: r.strings(3), Deleting: r.fields(4),
	}
	found := r.list(5)
	for n := 0; n+2 < len(found); n += 3 {
		s.Instances = append(s.Instances, InstanceSnapshot{found.fields(n), found.text(n + 1), found.strings(n + 2)})
	}
	return s
}

// CheckChallenge returns the key of the challenge of a snapshot, or an error if
// this code can't read or can't restore it, its instances aside.
func (s *Store) CheckChallenge(of Snapshot) (ctf.ChallengeKey, error) {
	c, err := decodeChallenge(of.Challenge)
	if err != nil {
		return ctf.ChallengeKey{}, err
	}
	if c.Key.Tenant == "" || of.Challenge["incarnation"] == "" {
		return ctf.ChallengeKey{}, errors.New("read a challenge: it lacks its tenant or incarnation")
	}
	if err := c.Key.ID.Validate(); err != nil {
		return ctf.ChallengeKey{}, fmt.Errorf("read a challenge: %w", err)
	}
	if _, err := raised(of.Challenge, "revision"); err != nil {
		return ctf.ChallengeKey{}, fmt.Errorf("read challenge %q: %w", c.Key.ID, err)
	}
	score := regexp.MustCompile(`^-?[0-9]{1,20}(\.[0-9]{1,20})?$`)
	for identity, from := range of.Deleting {
		if !score.MatchString(from) {
			return ctf.ChallengeKey{}, fmt.Errorf("read challenge %q: instance %q is deleting since %.100q", c.Key.ID, identity, from)
		}
	}
	return c.Key, nil
}

// CheckInstance returns an error unless this store can read and restore all of
// an instance of a snapshot; its keys have to open what is sealed.
func (s *Store) CheckInstance(challenge ctf.ChallengeKey, i InstanceSnapshot) error {
	if i.Identity() == "" {
		return errors.New("read an instance: it lacks its identity")
	}
	read, err := s.instance(challenge, i.Identity(), i.Record)
	if err != nil {
		return err
	}
	if read.Source != "" { // else it is in the pool
		if err := read.Source.Validate(); err != nil {
			return fmt.Errorf("read instance %q: %w", i.Identity(), err)
		}
	}
	if _, err := raised(i.Record, "fence", "revision"); err != nil {
		return err
	}
	l := lease{store: s, key: ctf.InstanceKey{Challenge: challenge, Identity: ctf.Identity(i.Identity())}}
	_, err = l.checkpoint(i.Base, i.Journal)
	return err
}

// pairs are names and values as a script takes them, one of each kind in turn.
func pairs(args []any, name, value string, of map[string]string) []any {
	for _, key := range slices.Sorted(maps.Keys(of)) {
		args = append(args, "+"+name, key, "+"+value, of[key])
	}
	return args
}

func list(args []any, name string, values []string) []any {
	for _, value := range values {
		args = append(args, "+"+name, value)
	}
	return args
}
