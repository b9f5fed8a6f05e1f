package redis

import (
	"context"
	"errors"
	"iter"
	"math"
	"strconv"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Due yields what is to be destroyed, see [ctf.DueReader]. What it yields is
// not yielded again for a minute. A challenge that can't
// be read is an error, after which the others follow if the reader goes on.
func (s *Store) Due(ctx context.Context) iter.Seq2[ctf.InstanceKey, error] {
	return func(yield func(ctf.InstanceKey, error) bool) {
		bound, skip := "", 0
		for {
			r, err := s.run(ctx, call{"due_page", dueKey, []any{"bound", bound, "skip", skip}})
			if err != nil {
				yield(ctf.InstanceKey{}, err)
				return
			}
			page := r.strings(2)
			if len(page) == 0 {
				return
			}
			bound = r.text(1)
			groups, unread := groupDue(page)
			skip += unread // of a newer version: not ours to judge
			for _, g := range groups {
				ids, err := s.settleDue(ctx, g, bound)
				if err != nil {
					skip += len(g.members)
					if !yield(ctf.InstanceKey{Challenge: g.key}, err) || isUnavailable(err) {
						return
					}
					continue
				}
				for _, id := range ids {
					if !yield(ctf.InstanceKey{Challenge: g.key, Identity: id}, nil) {
						return
					}
				}
			}
		}
	}
}

// A dueGroup is the due entries of one challenge.
type dueGroup struct {
	key             ctf.ChallengeKey
	members, scores []string
	args            []any
}

func groupDue(page []string) (groups []*dueGroup, unread int) {
	byKey := map[ctf.ChallengeKey]*dueGroup{}
	for n := 0; n+1 < len(page); n += 2 {
		e, err := parseDueEntry(page[n])
		if err != nil {
			unread++
			continue
		}
		g := byKey[e.challenge]
		if g == nil {
			g = &dueGroup{key: e.challenge}
			byKey[e.challenge], groups = g, append(groups, g)
		}
		g.members, g.scores = append(g.members, page[n]), append(g.scores, page[n+1])
		switch e.kind {
		case dueInstance:
			g.args = append(g.args, "+identity", e.name)
		case dueSource:
			g.args = append(g.args, "+source", e.name)
		case dueWhole:
			g.args = append(g.args, "whole", "1")
		}
	}
	return groups, unread
}

// settleDue looks at one challenge and moves its entries on, before anything
// is handed out: whoever stops in between leaves an entry for another look.
func (s *Store) settleDue(ctx context.Context, g *dueGroup, bound string) ([]ctf.Identity, error) {
	r, err := s.run(ctx, call{"due", challengePrefix(g.key), g.args})
	if err != nil {
		return nil, err
	}
	for _, source := range r.strings(5) {
		if err := s.dropHint(ctx, g.key, ctf.SourceID(source)); err != nil {
			return nil, err
		}
	}
	var args []any
	for n, member := range g.members {
		args = append(args, "+seen", member, "+at", g.scores[n])
	}
	next := func(kind, name, score string) {
		args = append(args, "+next", dueEntry{kind, g.key, name}.member(), "+by", beyond(score, bound))
	}
	ends := r.strings(2)
	for n := 0; n+1 < len(ends); n += 2 {
		next(dueInstance, ends[n], scoreAfter(ends[n+1]))
	}
	if again := r.text(3); again != "" {
		next(duePool, "", again)
	}
	if end := r.text(4); end != "" {
		next(duePool, "", scoreAfter(end))
	}
	if _, err := s.run(ctx, call{"due_settle", dueKey, args}); err != nil {
		return nil, err
	}
	return identities(r.strings(1)), nil
}

// dropHint has what leads from a source to nothing of a challenge be taken away, as
// whoever asks what it holds would.
func (s *Store) dropHint(ctx context.Context, challenge ctf.ChallengeKey, source ctf.SourceID) error {
	key := sourceKey(challenge.Tenant, source)
	_, err := s.hintPage(ctx, key, []any{"field", string(challenge.ID)}, map[string]bool{}, func(page []string) ([]bool, error) {
		if len(page) == 0 {
			return nil, nil
		}
		r, err := s.run(ctx, retrieveCall(challenge, source))
		return []bool{r.status() == "none"}, err
	})
	return err
}

// scoreAfter is the score of the first moment past an instant, as far as a
// floating point number can tell.
func scoreAfter(instant string) string {
	s, n, err := parseParts(instant)
	if err != nil {
		return "0" // at once: whoever looks finds out what is wrong
	}
	return formatScore(float64(s) + float64(n)/1e9 + 0.001)
}

// beyond keeps an entry out of the reading that wrote it, though the clocks of
// two nodes may not agree on whether it is due.
func beyond(score, bound string) string {
	a, errA := strconv.ParseFloat(score, 64)
	b, errB := strconv.ParseFloat(bound, 64)
	if errA != nil || errB != nil {
		return score
	}
	return formatScore(math.Max(a, b+0.001))
}

func formatScore(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }

func isUnavailable(err error) bool {
	e, ok := errors.AsType[*ctf.Error](err)
	return ok && e.Kind == ctf.Unavailable && !errors.Is(err, ctf.ErrUnreadable)
}
