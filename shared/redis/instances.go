package redis

import (
	"context"
	"iter"
	"slices"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Instance returns what a source holds of a challenge, or an InstanceNotFound
// error, also for what is not visible. It is one round trip.
func (s *Store) Instance(ctx context.Context, challenge ctf.ChallengeKey, source ctf.SourceID) (ctf.Instance, error) {
	r, err := s.run(ctx, retrieveCall(challenge, source))
	if err != nil {
		return ctf.Instance{}, err
	}
	if r.status() != "ok" {
		return ctf.Instance{}, ctf.InstanceNotFound(challenge.ID, source)
	}
	return s.instance(challenge, r.text(1), r.fields(2))
}

func retrieveCall(challenge ctf.ChallengeKey, source ctf.SourceID) call {
	return call{"retrieve", challengePrefix(challenge), []any{"source", string(source)}}
}

func (s *Store) instance(challenge ctf.ChallengeKey, id string, f fields) (ctf.Instance, error) {
	return decodeInstance(s.keys, ctf.InstanceKey{Challenge: challenge, Identity: ctf.Identity(id)}, f)
}

// BySource yields all that a source holds and may see, over all challenges of
// the tenant, each once, in no order. An error ends the sequence; that of a
// record comes after all others.
func (s *Store) BySource(ctx context.Context, tenant ctf.Tenant, source ctf.SourceID) iter.Seq2[ctf.Instance, error] {
	return sequence(func(yield func(ctf.Instance) error) error {
		var u unread
		return u.after(s.hints(ctx, sourceKey(tenant, source), func(page []string) ([]bool, error) {
			return s.yieldHeld(ctx, tenant, source, page, &u, yield)
		}))
	})
}

func (s *Store) yieldHeld(
	ctx context.Context, tenant ctf.Tenant, source ctf.SourceID, ids []string, u *unread, yield func(ctf.Instance) error,
) ([]bool, error) {
	absent := make([]bool, len(ids))
	keys := make([]ctf.ChallengeKey, len(ids))
	calls := make([]call, len(ids))
	for n, id := range ids {
		keys[n] = ctf.ChallengeKey{Tenant: tenant, ID: ctf.ChallengeID(id)}
		calls[n] = retrieveCall(keys[n], source)
	}
	replies, failures := s.runEach(ctx, calls)
	for n, r := range replies {
		err := failures[n]
		if absent[n] = r.status() == "none"; err == nil && r.status() == "ok" {
			var i ctf.Instance
			if i, err = s.instance(keys[n], r.text(1), r.fields(2)); err == nil {
				err = yield(i)
			}
		}
		if err = u.note(err); err != nil {
			return nil, err
		}
	}
	return absent, nil
}

// Claimed yields the visible instances that sources hold of a challenge, each
// once, in no order. An unknown challenge yields none. The error of a record
// comes after all others.
func (s *Store) Claimed(ctx context.Context, key ctf.ChallengeKey) iter.Seq2[ctf.Instance, error] {
	return sequence(func(yield func(ctf.Instance) error) error {
		var u unread
		seen := map[string]bool{} // a scan may name a source twice
		for cursor := "0"; ; {
			r, err := s.run(ctx, call{"claimed", challengePrefix(key), []any{"cursor", cursor}})
			if err != nil {
				return err
			}
			found := r.list(2)
			for n := 0; n+1 < len(found); n += 2 {
				id := found.text(n)
				if seen[id] {
					continue
				}
				seen[id] = true
				i, err := s.instance(key, id, found.fields(n+1))
				if err == nil {
					err = yield(i)
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

// Reserve binds an instance to a source, see [ctf.InstanceWriter]. It is two
// round trips, and one more when the instance ends within two minutes. Where
// what is ready will do alone it looks first: one that is refused leaves no hint.
func (s *Store) Reserve(ctx context.Context, req ctf.ReserveRequest) (ctf.Reservation, error) {
	request := string(ctf.NewIdentity())
	reserve := reserveCall(req, request)
	r, h := reply{"ready"}, hinted{}
	var err error
	if req.ReadyOnly {
		if r, err = s.run(ctx, reserve); err != nil {
			return ctf.Reservation{}, err
		}
	}
	if r.status() == "ready" {
		hints := []call{
			hintCall(sourceKey(req.Challenge.Tenant, req.Source), string(req.Challenge.ID)),
			lookCall(dueEntry{dueSource, req.Challenge, string(req.Source)}),
		}
		r, h, err = s.announced(ctx, hints, func(h hinted) call {
			return call{reserve.script, reserve.key, slices.Concat(reserve.args, []any{"hint", h.at})}
		})
		if err != nil {
			return ctf.Reservation{}, err
		}
	}
	switch r.status() {
	case "claimed", "reserved", "attached":
	case "none ready":
		return ctf.Reservation{}, ctf.ErrNoneReady
	default:
		return ctf.Reservation{}, refusal("reserve", r, req.Challenge.ID, req.Source)
	}
	f := r.fields(2)
	i, err := s.instance(req.Challenge, f["identity"], f)
	if err != nil {
		return ctf.Reservation{}, err
	}
	return ctf.Reservation{
		Instance: i, Claimed: r.status() == "claimed", Attached: r.status() == "attached", Replaced: ctf.Identity(r.text(1)),
		Request: request,
	}, s.sharpen(ctx, req.Challenge, h, f["identity"], f["ends_at"])
}

func reserveCall(req ctf.ReserveRequest, request string) call {
	args := []any{
		"source", string(req.Source), "identity", string(ctf.NewIdentity()), "request", request,
		"additional", encodeAdditional(req.Additional), "idempotency", req.IdempotencyKey,
	}
	if req.ReadyOnly {
		args = append(args, "ready", "1")
	}
	return call{"reserve", challengePrefix(req.Challenge), args}
}

// Follow returns what a reservation led to, see [ctf.InstanceWriter]: a
// replacement keeps the name of the request. It is one round trip.
func (s *Store) Follow(ctx context.Context, r ctf.Reservation) (ctf.Instance, error) {
	challenge, source := r.Instance.Key.Challenge, r.Instance.Source
	found, err := s.run(ctx, call{"follow", challengePrefix(challenge), []any{"source", string(source), "request", r.Request}})
	if err != nil {
		return ctf.Instance{}, err
	}
	switch found.status() {
	case "ok":
		return s.instance(challenge, found.text(1), found.fields(2))
	case "deleted":
		return ctf.Instance{}, ctf.InstanceDeleted(challenge.ID, source)
	}
	return ctf.Instance{}, ctf.InstanceNotFound(challenge.ID, source)
}

// Renew moves the end of an instance; see [ctf.InstanceWriter]. It is one
// round trip: the entry for the former end is moved on when it is looked at.
func (s *Store) Renew(ctx context.Context, challenge ctf.ChallengeKey, source ctf.SourceID) (ctf.Instance, error) {
	r, err := s.run(ctx, call{"renew", challengePrefix(challenge), []any{"source", string(source)}})
	if err != nil {
		return ctf.Instance{}, err
	}
	if err := refusal("renew", r, challenge.ID, source); err != nil {
		return ctf.Instance{}, err
	}
	return s.instance(challenge, r.text(1), r.fields(2))
}

// DeleteInstance marks what the source holds deleting; see
// [ctf.InstanceWriter].
func (s *Store) DeleteInstance(ctx context.Context, challenge ctf.ChallengeKey, source ctf.SourceID) (id ctf.Identity, d ctf.Deletion, err error) {
	request := string(ctf.NewIdentity())
	hints := []call{lookCall(dueEntry{duePool, challenge, ""})}
	r, _, err := s.announced(ctx, hints, func(h hinted) call {
		return call{"delete_instance", challengePrefix(challenge), []any{"hint", h.at, "source", string(source), "request", request}}
	})
	if err != nil {
		return "", ctf.Deletion{}, err
	}
	switch r.status() {
	case "first", "again":
		return ctf.Identity(r.text(1)), ctf.Deletion{First: r.status() == "first", Request: request}, nil
	}
	return "", ctf.Deletion{}, refusal("delete_instance", r, challenge.ID, source)
}

// DisownInstance has a deletion belong to nobody; see [ctf.InstanceWriter].
func (s *Store) DisownInstance(ctx context.Context, key ctf.InstanceKey, d ctf.Deletion) error {
	return s.disown(ctx, key.Challenge, d, key.Identity)
}

func (s *Store) disown(ctx context.Context, challenge ctf.ChallengeKey, d ctf.Deletion, instances ...ctf.Identity) error {
	args := []any{"request", d.Request}
	for _, id := range instances {
		args = append(args, "+identity", string(id))
	}
	_, err := s.run(ctx, call{"disown", challengePrefix(challenge), args})
	return err
}

// ReservePooled records one more pending pooled instance if the pool is short
// of one; see [ctf.PoolWriter]. It looks first: reconcile asks for every pool,
// and an announcement would turn the fast tick on.
func (s *Store) ReservePooled(ctx context.Context, challenge ctf.ChallengeKey) (id ctf.Identity, ok bool, err error) {
	id = ctf.NewIdentity()
	r, err := s.run(ctx, call{"reserve_pooled", challengePrefix(challenge), []any{"identity", string(id)}})
	if err != nil || r.status() == "full" {
		return "", false, err
	}
	hints := []call{lookCall(dueEntry{duePool, challenge, ""})}
	r, _, err = s.announced(ctx, hints, func(h hinted) call {
		return call{"reserve_pooled", challengePrefix(challenge), []any{"hint", h.at, "identity", string(id)}}
	})
	if err != nil {
		return "", false, err
	}
	if r.status() == "full" {
		return "", false, nil
	}
	return id, true, refusal("reserve_pooled", r, challenge.ID, "")
}
