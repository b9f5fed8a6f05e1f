package faults

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// A state is that of what one source has of one challenge.
type state struct {
	phase phase
	// create is who made it: an idempotency key, or one call.
	create string
	// instance is which one it is; empty is one that nobody was told of yet.
	instance string
	// owed tells that whoever deleted it was not told so, so that the next one
	// who deletes may be.
	owed bool
	// gone are the instances that clients were told of and that are deleted, and
	// open the creates that took the source and are to end without an instance:
	// names, each with a space behind it.
	gone, open string
	// passed is how many marks lie behind, and taken, a byte for each, how many
	// of each class of steps were taken.
	passed int
	taken  string
}

type phase string

const (
	none    phase = "none"    // also what is still being destroyed
	pending phase = "pending" // creates find it, reads do not
	ready   phase = "ready"
)

// model is what one source may see, one step after the other.
func model(classes int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{phase: none, taken: strings.Repeat("\x00", classes)}} },
		Step: func(from, input, _ any) (to []any) {
			for _, s := range from.(state).next(input.(step)) {
				to = append(to, s)
			}
			return to
		},
		DescribeOperation: func(_, output any) string {
			c := output.(Call)
			return fmt.Sprintf("%s %s: %s %s", c.Verb, c.Key, c.Outcome, c.Instance)
		},
		DescribeState: func(s any) string { return fmt.Sprintf("%+v", s) },
	}
	return m.ToModel()
}

// next returns the states that a step may lead to, none if it can't be taken.
func (s state) next(did step) []state {
	if did.until != answered {
		return s.unclear(did)
	}
	to, legal := s.after(did)
	switch {
	case did.maybe && legal && to != s:
		return []state{s, to}
	case did.maybe:
		return []state{s}
	case !legal:
		return nil
	}
	return []state{to}
}

// unclear is next for a step of a call without an answer.
func (s state) unclear(did step) (all []state) {
	if s.passed > did.by {
		return []state{s}
	}
	if int(s.taken[did.class]) != did.nth {
		return nil
	}
	kinds := []kind{did.kind}
	if did.kind == settle {
		kinds = []kind{deploy, giveUp}
	}
	for _, did.kind = range kinds {
		if to, legal := s.after(did); legal && to != s {
			to.taken = s.taken[:did.class] + string([]byte{byte(did.nth + 1)}) + s.taken[did.class+1:]
			all = append(all, to)
		}
	}
	return all
}

// after returns the state that a step leads to, and whether it can be taken.
func (s state) after(did step) (state, bool) {
	mine := s.create == did.create
	switch did.kind {
	case reserve:
		if s.phase == none {
			s.phase, s.create, s.owed = pending, did.create, false
			mine = true
		}
		if did.ends != "" {
			s.open += did.ends + " "
		}
		return s, mine
	case deploy:
		if s.phase == pending && mine && !s.deleted(did.instance) {
			s.phase, s.instance = ready, did.instance
			return s, true
		}
		return s.seen(did.instance, mine)
	case giveUp:
		if s.phase == pending && mine {
			return s.free(false).close(did.ends)
		}
		return s.lost(did.ends)
	case lose:
		return s.lost(did.ends)
	case conflict:
		return s, s.phase != none && !mine
	case find:
		return s.seen(did.instance, true)
	case miss:
		return s, s.phase != ready
	case remove:
		legal := s.phase != none || s.owed
		return s.free(did.until != answered), legal
	case absent:
		return s, s.phase == none
	case mark:
		s.passed++
		return s, true
	case rest:
		s.passed++
		return s, s.phase != pending
	}
	return s, false
}

// free is the state in which the source has nothing.
func (s state) free(owed bool) state {
	if s.instance != "" {
		s.gone += s.instance + " "
	}
	return state{phase: none, owed: owed, gone: s.gone, open: s.open, passed: s.passed, taken: s.taken}
}

// lost is the state after a create that ends without an instance, for which
// what it made must be gone: it may not have been the one who gave it up.
func (s state) lost(create string) (state, bool) {
	if s.phase != none {
		return s, false
	}
	return s.close(create)
}

// close is the state after the end of a create, which must have taken the source
// before; empty is one of which that is not known.
func (s state) close(create string) (state, bool) {
	if create == "" {
		return s, true
	}
	if !strings.Contains(" "+s.open, " "+create+" ") {
		return s, false
	}
	s.open = strings.TrimPrefix(strings.Replace(" "+s.open, " "+create+" ", " ", 1), " ")
	return s, true
}

// deleted tells whether a source had this very instance before.
func (s state) deleted(instance string) bool {
	return instance != "" && strings.Contains(" "+s.gone, " "+instance+" ")
}

// seen is the state in which a source has this very instance.
func (s state) seen(instance string, may bool) (state, bool) {
	if s.phase != ready || !may || s.deleted(instance) || s.instance != "" && instance != "" && s.instance != instance {
		return s, false
	}
	if instance != "" {
		s.instance = instance
	}
	return s, true
}
