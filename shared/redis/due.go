package redis

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
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
				ids, free, err := s.settleDue(ctx, g, bound)
				for _, id := range ids {
					if !yield(ctf.InstanceKey{Challenge: g.key, Identity: id}, nil) {
						return
					}
				}
				if err != nil {
					skip += len(g.members)
					if !yield(ctf.InstanceKey{Challenge: g.key}, err) || isUnavailable(err) {
						return
					}
					continue
				}
				if err := s.settleSources(ctx, g.key, free); err != nil {
					skip += len(free)
					if !yield(ctf.InstanceKey{Challenge: g.key}, err) {
						return
					}
				}
			}
		}
	}
}

// A dueGroup is the due entries of one challenge.
type dueGroup struct {
	key     ctf.ChallengeKey
	members []dueMember
	args    []any
}

// A dueMember is a due entry as it stands in the index.
type dueMember struct {
	dueEntry

	text, score string
}

// seen are the arguments that take it away, unless it moved since.
func (m dueMember) seen() []any { return []any{"+seen", m.text, "+at", m.score} }

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
		g.members = append(g.members, dueMember{e, page[n], page[n+1]})
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
// is handed out: whoever stops in between leaves an entry for another look. What is
// to be destroyed is returned with an error as well, for nobody else is told of it
// for a minute. The entries of sources that hold nothing stay, and are returned.
func (s *Store) settleDue(ctx context.Context, g *dueGroup, bound string) (ids []ctf.Identity, free []dueMember, err error) {
	r, err := s.run(ctx, call{"due", challengePrefix(g.key), g.args})
	if err != nil {
		return nil, nil, err
	}
	var args []any
	for _, m := range g.members {
		if m.kind == dueSource && slices.Contains(r.strings(5), m.name) {
			free = append(free, m)
			continue
		}
		args = append(args, m.seen()...)
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
	_, err = s.run(ctx, call{"due_settle", dueKey, args})
	return identities(r.strings(1)), free, err
}

// settleSources has what leads from sources to nothing of a challenge be taken away,
// and then their entries.
func (s *Store) settleSources(ctx context.Context, challenge ctf.ChallengeKey, free []dueMember) error {
	if len(free) == 0 {
		return nil
	}
	var args []any
	var sources []ctf.SourceID
	for _, m := range free {
		args = append(args, m.seen()...)
		sources = append(sources, ctf.SourceID(m.name))
	}
	if err := s.dropHints(ctx, challenge, sources); err != nil {
		return err
	}
	_, err := s.run(ctx, call{"due_settle", dueKey, args})
	return err
}

// dropHints takes away what leads from sources to nothing of a challenge, as whoever
// asks what they hold would. It is three round trips.
func (s *Store) dropHints(ctx context.Context, challenge ctf.ChallengeKey, sources []ctf.SourceID) error {
	hints, looks := make([]call, len(sources)), make([]call, len(sources))
	for n, source := range sources {
		hints[n] = call{"hint_page", sourceKey(challenge.Tenant, source), []any{"field", string(challenge.ID)}}
		looks[n] = retrieveCall(challenge, source)
	}
	found, err := s.runAll(ctx, hints)
	if err != nil {
		return err
	}
	held, err := s.runAll(ctx, looks) // after the hints were read, see hint.go
	if err != nil {
		return err
	}
	var drops []call
	for n, r := range held {
		hint := found[n].strings(2)
		if r.status() == "none" && len(hint) == 2 && hint[1] != "" {
			drops = append(drops, call{"unhint", hints[n].key, []any{"+field", hint[0], "+touched", hint[1]}})
		}
	}
	_, err = s.runAll(ctx, drops)
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
