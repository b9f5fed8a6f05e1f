package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Now is Redis' time, see [ctf.Auditor].
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	r, err := s.run(ctx, call{"now", dueKey, nil})
	if err != nil {
		return time.Time{}, err
	}
	return parseInstant(r.text(1))
}

// Tenants yields every tenant that ever had a challenge.
func (s *Store) Tenants(ctx context.Context) iter.Seq2[ctf.Tenant, error] {
	return sequence(func(yield func(ctf.Tenant) error) error {
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		tenants, err := s.client.SMembers(bounded, tenantsKey).Result()
		cancel()
		if err != nil {
			return failure(ctx, "read the tenants", err)
		}
		for _, tenant := range tenants {
			if err := yield(ctf.Tenant(tenant)); err != nil {
				return err
			}
		}
		return nil
	})
}

// All yields every instance of a challenge in any state, a page at a time,
// each once, and whether somebody holds its lease now. The error of a record
// comes after all others.
func (s *Store) All(ctx context.Context, key ctf.ChallengeKey) iter.Seq2[ctf.AuditEntry, error] {
	return sequence(func(yield func(ctf.AuditEntry) error) error {
		var u unread
		seen := map[string]bool{} // a scan may name an identity twice
		for cursor := "0"; ; {
			r, err := s.run(ctx, call{"audit", challengePrefix(key), []any{"cursor", cursor}})
			if err != nil {
				return err
			}
			now, err := parseInstant(r.text(2))
			if err != nil {
				return err
			}
			found := r.list(3)
			for n := 0; n+3 < len(found); n += 4 {
				if seen[found.text(n)] {
					continue
				}
				seen[found.text(n)] = true
				e, err := s.auditEntry(key, found[n:n+4], now)
				if err == nil {
					err = yield(e)
				}
				if err = u.note(err); err != nil {
					return err
				}
			}
			if cursor = r.text(1); cursor == "0" {
				return u.after(nil)
			}
		}
	})
}

func (s *Store) auditEntry(key ctf.ChallengeKey, found reply, now time.Time) (ctf.AuditEntry, error) {
	f := found.fields(1)
	i, err := s.instance(key, found.text(0), f)
	if err != nil {
		return ctf.AuditEntry{}, err
	}
	changed, err := parseInstant(f["changed_at"])
	if err != nil {
		return ctf.AuditEntry{}, fmt.Errorf("%w: instance %s: the field changed_at: %w", ctf.ErrUnreadable, i.Key.Identity, err)
	}
	return ctf.AuditEntry{Instance: i, Leased: found.text(2) == "1", Age: now.Sub(changed), Deployed: found.text(3) != "0"}, nil
}

// Recorded tells, for each key in order, whether there is a record of the
// instance. It is an error if Redis has lost its records since the store was
// asked for its installation, or while a backup is being restored.
func (s *Store) Recorded(ctx context.Context, keys []ctf.InstanceKey) ([]bool, error) {
	// Before and after: records may come with the end of a restore, and go with
	// Redis.
	if err := s.sameInstallation(ctx); err != nil {
		return nil, err
	}
	found, err := s.recorded(ctx, keys)
	if err != nil {
		return nil, err
	}
	return found, s.sameInstallation(ctx)
}

func (s *Store) recorded(ctx context.Context, keys []ctf.InstanceKey) ([]bool, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found := make([]bool, 0, len(keys))
	for page := range slices.Chunk(keys, pageSize) {
		commands := make([]*redis.IntCmd, len(page))
		_, err := s.client.Pipelined(bounded, func(p redis.Pipeliner) error {
			for n, key := range page {
				commands[n] = p.Exists(bounded, challengePrefix(key.Challenge)+"i:"+string(key.Identity))
			}
			return nil
		})
		if err != nil {
			return nil, failure(ctx, "look for records", err)
		}
		for _, command := range commands {
			found = append(found, command.Val() == 1)
		}
	}
	return found, nil
}

// RepairIndexes makes every index that should name the challenge or one of its
// instances name it. A challenge that is not there is left alone. What ends
// gets its date, and no announcement: a system at rest stays so. A record that
// can't be read is an error, once all others are named.
func (s *Store) RepairIndexes(ctx context.Context, key ctf.ChallengeKey) error {
	c, err := s.Challenge(ctx, key)
	if err != nil {
		if ctf.ReasonOf(err) == ctf.ReasonChallengeNotFound {
			return nil
		}
		return err
	}
	if err := s.addTenant(ctx, key.Tenant); err != nil {
		return err
	}
	hints := []call{hintCall(challengesKey(key.Tenant), string(key.ID))}
	var unreadable error
	for e, err := range s.All(ctx, key) {
		if errors.Is(err, ctf.ErrUnreadable) {
			unreadable = err
			continue
		}
		if err != nil {
			return err
		}
		hints = append(hints, instanceHints(c, e.Instance)...)
		if len(hints) >= pageSize {
			if _, err := s.runAll(ctx, hints); err != nil {
				return err
			}
			hints = hints[:0]
		}
	}
	_, err = s.runAll(ctx, hints)
	return errors.Join(err, unreadable)
}

// instanceHints are what leads to an instance: who holds it, and when it is to
// be looked at. Whoever changes it meanwhile announces that himself.
func instanceHints(c ctf.Challenge, i ctf.Instance) (hints []call) {
	if i.Source != "" {
		hints = append(hints, hintCall(sourceKey(c.Key.Tenant, i.Source), string(c.Key.ID)))
	}
	switch {
	case i.State == ctf.Deleting:
		hints = append(hints, lookCall(dueEntry{duePool, c.Key, ""}))
	case i.Until != nil:
		hints = append(hints, dateCall(dueEntry{dueInstance, c.Key, string(i.Key.Identity)}, *i.Until))
	case i.Source == "" && c.Until != nil:
		hints = append(hints, dateCall(dueEntry{duePool, c.Key, ""}, *c.Until))
	}
	return hints
}
