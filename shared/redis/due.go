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
// not yielded again for a minute. A challenge or an instance that can't be read is
// an error, after which the others follow if the reader goes on.
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
				left, more := s.yieldDue(ctx, g, bound, yield)
				if !more {
					return
				}
				skip += left
			}
		}
	}
}

// yieldDue yields what is due of one challenge, and what went wrong. left is how many of
// its entries stay where they are; more tells whether to go on with other challenges.
func (s *Store) yieldDue(
	ctx context.Context, g *dueGroup, bound string, yield func(ctf.InstanceKey, error) bool,
) (left int, more bool) {
	found, err := s.settleDue(ctx, g, bound)
	for _, id := range found.ids {
		if !yield(ctf.InstanceKey{Challenge: g.key, Identity: id}, nil) {
			return 0, false
		}
	}
	failed := func(err error) bool { return yield(ctf.InstanceKey{Challenge: g.key}, err) }
	if err != nil {
		return len(g.members), failed(err) && !isUnavailable(err)
	}
	if found.unread != nil && !failed(found.unread) {
		return 0, false
	}
	if err := s.settleSources(ctx, g.key, found.free); err != nil {
		return len(found.free), failed(err)
	}
	return 0, true
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

// A dueFound is what a look at one challenge found.
type dueFound struct {
	// ids are to be destroyed; nobody else is told of them for a minute.
	ids []ctf.Identity
	// free are the entries of sources that hold nothing. They stay where they are.
	free []dueMember
	// unread tells of records that can't be read. They are looked at again in a minute.
	unread error
}

// settleDue looks at one challenge and moves its entries on, before anything
// is handed out: whoever stops in between leaves an entry for another look. What it
// found is valid with an error as well.
func (s *Store) settleDue(ctx context.Context, g *dueGroup, bound string) (found dueFound, err error) {
	r, err := s.run(ctx, call{"due", challengePrefix(g.key), g.args})
	if err != nil {
		return dueFound{}, err
	}
	found.ids = identities(r.strings(1))
	var args []any
	for _, m := range g.members {
		if m.kind == dueSource && slices.Contains(r.strings(5), m.name) {
			found.free = append(found.free, m)
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
	for kept := r.strings(6); len(kept) > 1; kept = kept[2:] {
		next(kept[0], kept[1], r.text(8))
	}
	var u unread
	for _, why := range r.strings(7) {
		_ = u.note(unreadable("due", errors.New(why))) // it keeps what is unreadable
	}
	found.unread = u.after(nil)
	_, err = s.run(ctx, call{"due_settle", dueKey, args})
	return found, err
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
