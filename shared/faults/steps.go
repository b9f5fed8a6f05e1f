package faults

import (
	"cmp"
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"
)

// A step is one moment at which a call takes effect. A create has more than one:
// it takes the source, and later the instance is there, or it ends without one.
type step struct {
	kind     kind
	create   string
	instance string
	// ends names a create that takes the source and ends without an instance.
	ends string
	// maybe tells that it is not known whether the step was taken.
	maybe bool
	// until is how long after the answer it may still be taken, and by the mark
	// that stands there. Until then it is taken if it changes anything, and from
	// then on it was not: if it could be left out at any moment, the search would
	// try them all.
	until until
	by    int
	// class are the steps that differ from this one in when they may be taken
	// first, and nothing else, and nth is which of them this is: they are taken in
	// order, again so that the search has less to try.
	class, nth int
}

type kind string

const (
	reserve  kind = "reserve"
	deploy   kind = "deploy"
	giveUp   kind = "give up"
	settle   kind = "settle" // deploy or give up
	lose     kind = "lose"   // somebody else deleted what a create was making
	conflict kind = "conflict"
	find     kind = "find"
	miss     kind = "miss"
	remove   kind = "remove"
	absent   kind = "absent"
	mark     kind = "mark" // a death, or the end
	rest     kind = "rest" // the mark from which on nothing is at work
)

type until int

const (
	answered until = iota
	begun          // until nobody is left who knows of the call
	settled        // until all is quiet: whoever comes by goes on with it
)

// never is when a step ends of which it is not known whether it was taken.
const never = math.MaxInt64

// steps are those of a call, the nth of its history.
func (c Call) steps(n int) []step {
	call := fmt.Sprintf("call-%d", n)
	create := cmp.Or(c.Key, call)
	switch {
	case c.Verb == Create && c.Outcome == Done:
		return []step{{kind: reserve, create: create}, {kind: deploy, create: create, instance: c.Instance}}
	case c.Verb == Create && c.Outcome == Exists:
		return []step{{kind: conflict, create: create}}
	case c.Verb == Create && c.Outcome == Undone:
		return []step{{kind: reserve, create: create, ends: call}, {kind: giveUp, create: create, ends: call}}
	case c.Verb == Create && c.Outcome == Deleted:
		return []step{
			{kind: reserve, create: create, ends: call},
			{kind: deploy, create: create, maybe: true},
			{kind: lose, create: create, ends: call},
		}
	case c.Verb == Create && c.Outcome == Unclear:
		return []step{
			{kind: reserve, create: create, until: begun},
			{kind: settle, create: create, until: settled},
		}
	case c.Verb == Delete && c.Outcome == Done:
		return []step{{kind: remove}}
	case c.Verb == Delete && c.Outcome == Missing:
		return []step{{kind: absent}}
	case c.Verb == Delete && c.Outcome == Unclear:
		return []step{{kind: remove, until: begun}}
	case c.Outcome == Done:
		return []step{{kind: find, instance: c.Instance}}
	case c.Outcome == Missing:
		return []step{{kind: miss}}
	}
	return nil // a create that had no effect, or a reader who was told nothing
}

// operations are the steps of calls about one source, which are in the order of
// their beginnings, and the marks, in time; classes is how many of those there are.
func (h History) operations(calls []Call) (all []porcupine.Operation, classes int) {
	marks := h.marks()
	for n, m := range marks {
		did := step{kind: mark}
		if h.Quiet > 0 && n == len(marks)-2 {
			did.kind = rest
		}
		all = append(all, porcupine.Operation{Input: did, Call: m, Output: Call{}, Return: m})
	}
	alike := map[step]step{} // what is the same of a class, and the last of it
	for n, c := range calls {
		for _, s := range c.steps(n) {
			ended := int64(c.Ended)
			if s.until != answered {
				s.by = h.by(c, s.until)
				ended = marks[s.by] + 1
				last, ok := alike[s]
				if !ok {
					last = step{class: len(alike), nth: -1}
				}
				same := s
				s.class, s.nth = last.class, last.nth+1
				alike[same] = s
			}
			all = append(all, porcupine.Operation{ClientId: c.Client, Input: s, Call: int64(c.Began), Output: c, Return: ended})
		}
	}
	return all, len(alike)
}

// marks are the deaths, the moment from which on all is quiet, and the end.
func (h History) marks() []int64 {
	var marks []int64
	for _, death := range h.Deaths {
		marks = append(marks, int64(death))
	}
	if h.Quiet > 0 {
		marks = append(marks, int64(h.Quiet))
	}
	return append(marks, never-1)
}

// by is the mark up to which a step of a call may be taken.
func (h History) by(c Call, u until) int {
	marks := h.marks()
	first := len(h.Deaths) // only those who know of the call begin with it
	if u == begun {
		first = 0
	}
	for n := first; ; n++ {
		if marks[n] > int64(c.Began) {
			return n
		}
	}
}
