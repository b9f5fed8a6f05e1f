package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Instances yields every instance that has a program, or the remains of one,
// each once, in the order of identities. A directory that is not there has
// none. An error ends the sequence.
func (p *Provider) Instances(ctx context.Context) iter.Seq2[ctf.Holding, error] {
	return func(yield func(ctf.Holding, error) bool) {
		names, err := p.store.identities()
		if err != nil {
			yield(ctf.Holding{}, fmt.Errorf("list instances: %w", err))
			return
		}
		for _, identity := range names {
			if ctx.Err() != nil {
				yield(ctf.Holding{}, context.Cause(ctx))
				return
			}
			holding, err := p.store.holding(identity)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went meanwhile
			}
			if err != nil {
				yield(ctf.Holding{}, fmt.Errorf("list instances: %w", err))
				return
			}
			if !yield(holding, nil) {
				return
			}
		}
	}
}

// Shows tells that the instance of any program is among the Instances.
func (p *Provider) Shows(r ctf.Resource) bool { return r.Type == string(Type) }

// holding is what the directory of an identity tells of it.
func (s *store) holding(identity string) (ctf.Holding, error) {
	info, err := os.Stat(filepath.Join(s.root, identity))
	if err != nil {
		return ctf.Holding{}, err
	}
	// Its directory changes with each program; a record is there before that.
	h := ctf.Holding{Key: ctf.InstanceKey{Identity: ctf.Identity(identity)}, Since: info.ModTime()}
	places, err := s.placesOf(identity)
	if err != nil {
		return ctf.Holding{}, err
	}
	for _, pl := range places {
		// A directory without a readable record is there since its last change.
		rec, _, _ := pl.load()
		if rec.Challenge != "" {
			h.Key.Challenge = ctf.ChallengeKey{Tenant: rec.Tenant, ID: rec.Challenge}
		}
		h.Since = earlier(h.Since, rec.MadeAt)
		h.Dead = h.Dead || !rec.running()
	}
	return h, nil
}

// earlier returns the earlier one; b may be none.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}
