package redis

import (
	"context"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Challenge returns one challenge, deleting ones included, or a
// ChallengeNotFound error.
func (s *Store) Challenge(ctx context.Context, key ctf.ChallengeKey) (ctf.Challenge, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	f, err := s.client.HGetAll(bounded, challengePrefix(key)+"c").Result()
	if err != nil {
		return ctf.Challenge{}, failure(ctx, "read a challenge", err)
	}
	if len(f) == 0 {
		return ctf.Challenge{}, ctf.ChallengeNotFound(key.ID)
	}
	return decodeChallenge(f)
}

// Challenges yields every challenge of a tenant, each once, in no order. An
// error ends the sequence; that of a record comes after all others.
func (s *Store) Challenges(ctx context.Context, tenant ctf.Tenant) iter.Seq2[ctf.Challenge, error] {
	return sequence(func(yield func(ctf.Challenge) error) error {
		var u unread
		return u.after(s.hints(ctx, challengesKey(tenant), func(page []string) ([]bool, error) {
			return s.yieldChallenges(ctx, tenant, page, &u, yield)
		}))
	})
}

func (s *Store) yieldChallenges(
	ctx context.Context, tenant ctf.Tenant, ids []string, u *unread, yield func(ctf.Challenge) error,
) ([]bool, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records := make([]*redis.MapStringStringCmd, len(ids))
	_, err := s.client.Pipelined(bounded, func(p redis.Pipeliner) error {
		for n, id := range ids {
			records[n] = p.HGetAll(bounded, challengePrefix(ctf.ChallengeKey{Tenant: tenant, ID: ctf.ChallengeID(id)})+"c")
		}
		return nil
	})
	if err != nil {
		return nil, failure(ctx, "read challenges", err)
	}
	absent := make([]bool, len(ids))
	for n, record := range records {
		if len(record.Val()) == 0 {
			absent[n] = true
			continue
		}
		c, err := decodeChallenge(record.Val())
		if err == nil {
			err = yield(c)
		}
		if err = u.note(err); err != nil {
			return nil, err
		}
	}
	return absent, nil
}

// CreateChallenge stores a new challenge in generation 1, or returns a
// ChallengeExists error.
func (s *Store) CreateChallenge(ctx context.Context, c ctf.Challenge) error {
	if err := s.addTenant(ctx, c.Key.Tenant); err != nil {
		return err
	}
	incarnation := string(ctf.NewIdentity())
	hints := []call{hintCall(challengesKey(c.Key.Tenant), string(c.Key.ID))}
	r, _, err := s.announced(ctx, hints, func(h hinted) call {
		return call{"create_challenge", challengePrefix(c.Key), []any{
			"hint", h.at, "tenant", string(c.Key.Tenant), "id", string(c.Key.ID), "incarnation", incarnation,
			"reference", c.Scenario.Reference, "digest", c.Scenario.Digest,
			"timeout", formatOptionalSpan(c.Timeout), "ends_at", formatOptionalInstant(c.Until),
			"additional", encodeAdditional(c.Additional), "min", c.Pool.Min, "max", c.Pool.Max,
		}}
	})
	if err != nil {
		return err
	}
	return refusal("create_challenge", r, c.Key.ID, "")
}

func (s *Store) addTenant(ctx context.Context, tenant ctf.Tenant) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return failure(ctx, "add a tenant", s.client.SAdd(bounded, tenantsKey, string(tenant)).Err())
}

// UpdateChallenge applies the change, see [ctf.ChallengeWriter]. Of pooled
// instances that are too many it gives up pending ones first, then the ready
// ones that were ready last.
func (s *Store) UpdateChallenge(ctx context.Context, key ctf.ChallengeKey, change ctf.ChallengeChange) (ctf.ChallengeUpdate, error) {
	request := string(ctf.NewIdentity())
	hints := []call{lookCall(dueEntry{dueWhole, key, ""})}
	r, h, err := s.announced(ctx, hints, func(h hinted) call {
		return call{"update_challenge", challengePrefix(key), updateArgs(change, request, h)}
	})
	if err != nil {
		return ctf.ChallengeUpdate{}, err
	}
	if r.status() == "gone" {
		return ctf.ChallengeUpdate{}, &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
			Message: "The challenge was deleted meanwhile.", Detail: "it was updated before that"}
	}
	if err := refusal("update_challenge", r, key.ID, ""); err != nil {
		return ctf.ChallengeUpdate{}, err
	}
	c, err := decodeChallenge(r.fields(1))
	if err != nil {
		return ctf.ChallengeUpdate{}, err
	}
	u := ctf.ChallengeUpdate{Challenge: c, Updating: identities(r.strings(2)), Deleting: identities(r.strings(3))}
	return u, s.sharpen(ctx, key, h, r.strings(4)...)
}

func updateArgs(change ctf.ChallengeChange, request string, h hinted) []any {
	strategy := change.Strategy
	if strategy == "" {
		strategy = ctf.InPlace
	}
	args := []any{"hint", h.at, "request", request, "soon", h.fires, "strategy", string(strategy)}
	if change.SetScenario {
		args = append(args, "reference", change.Scenario.Reference, "digest", change.Scenario.Digest)
	}
	if change.SetTimeout {
		args = append(args, "timeout", formatOptionalSpan(change.Timeout))
	}
	if change.SetUntil {
		args = append(args, "ends_at", formatOptionalInstant(change.Until))
	}
	if change.SetAdditional {
		args = append(args, "additional", encodeAdditional(change.Additional))
	}
	if change.SetMin {
		args = append(args, "min", strconv.FormatInt(change.Pool.Min, 10))
	}
	if change.SetMax {
		args = append(args, "max", strconv.FormatInt(change.Pool.Max, 10))
	}
	return args
}

// DeleteChallenge marks the challenge and all its instances deleting and
// returns their identities, those that were deleting before included.
func (s *Store) DeleteChallenge(ctx context.Context, key ctf.ChallengeKey) (d ctf.Deletion, instances []ctf.Identity, err error) {
	request := string(ctf.NewIdentity())
	hints := []call{lookCall(dueEntry{duePool, key, ""})}
	r, _, err := s.announced(ctx, hints, func(h hinted) call {
		return call{"delete_challenge", challengePrefix(key), []any{"hint", h.at, "request", request}}
	})
	if err != nil {
		return ctf.Deletion{}, nil, err
	}
	switch r.status() {
	case "first", "again":
		return ctf.Deletion{First: r.status() == "first", Request: request, Incarnation: r.text(2)}, identities(r.strings(1)), nil
	}
	return ctf.Deletion{}, nil, refusal("delete_challenge", r, key.ID, "")
}

// DisownChallenge has a deletion belong to nobody; see [ctf.ChallengeWriter].
func (s *Store) DisownChallenge(ctx context.Context, key ctf.ChallengeKey, d ctf.Deletion, instances []ctf.Identity) error {
	return s.disown(ctx, key, d, instances...)
}

// RemoveChallenge forgets a challenge that is deleting and has no instance
// left; see [ctf.ChallengeWriter].
func (s *Store) RemoveChallenge(ctx context.Context, key ctf.ChallengeKey, incarnation string) (removed bool, err error) {
	r, err := s.run(ctx, call{"remove_challenge", challengePrefix(key), []any{"incarnation", incarnation}})
	if err != nil {
		return false, err
	}
	if r.status() == "gone" {
		return false, nil
	}
	return r.status() == "ok", refusal("remove_challenge", r, key.ID, "")
}

// refusal returns the error that a script's word stands for; nil for "ok".
func refusal(script string, r reply, challenge ctf.ChallengeID, source ctf.SourceID) error {
	switch r.status() {
	case "ok":
		return nil
	case "challenge exists":
		return ctf.ChallengeExists(challenge)
	case "challenge not found":
		return ctf.ChallengeNotFound(challenge)
	case "challenge expired":
		return ctf.ChallengeExpired(challenge)
	case "no renewal":
		return ctf.ChallengeNoRenewal(challenge)
	case "instance exists":
		return ctf.InstanceExists(challenge, source)
	case "instance not found":
		return ctf.InstanceNotFound(challenge, source)
	case "instance expired":
		return ctf.InstanceExpired(challenge, source)
	case "not deleting":
		return conflict("the challenge was not asked to be deleted")
	case "not empty":
		return conflict("the challenge still has instances")
	}
	return unexpected(script, r)
}

func conflict(detail string) error {
	return &ctf.Error{Kind: ctf.Conflict, Reason: ctf.ReasonUnavailable, Message: "The challenge can't be removed yet.",
		Detail: detail + ", try again in a moment"}
}

func identities(texts []string) []ctf.Identity {
	var ids []ctf.Identity
	for _, text := range texts {
		ids = append(ids, ctf.Identity(text))
	}
	return ids
}
