package redis

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

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
// each once, and whether somebody holds its lease now.
func (s *Store) All(ctx context.Context, key ctf.ChallengeKey) iter.Seq2[ctf.AuditEntry, error] {
	return sequence(func(yield func(ctf.AuditEntry) error) error {
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
			for n := 0; n+2 < len(found); n += 3 {
				if seen[found.text(n)] {
					continue
				}
				seen[found.text(n)] = true
				e, err := s.auditEntry(key, found[n:n+3], now)
				if err != nil {
					return err
				}
				if err := yield(e); err != nil {
					return err
				}
			}
			if cursor = r.text(1); cursor == "0" {
				return nil
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
		return ctf.AuditEntry{}, err
	}
	return ctf.AuditEntry{Instance: i, Leased: found.text(2) == "1", Age: now.Sub(changed)}, nil
}

// Recorded tells, for each key in order, whether there is a record of the
// instance.
func (s *Store) Recorded(ctx context.Context, keys []ctf.InstanceKey) ([]bool, error) {
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
// gets its date, and no announcement: a system at rest stays so.
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
	for e, err := range s.All(ctx, key) {
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
	return err
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
