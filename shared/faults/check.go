package faults

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// searchFor is how long an order is looked for that explains the calls about
// one source. Those are few, and few of them unclear, so this is plenty.
const searchFor = time.Minute

// A Mistake is a source whose answers contradict each other.
type Mistake struct {
	Challenge, Source string
	// Why is one line.
	Why string
	// Calls are all that were about the source.
	Calls []Call
}

// String returns the calls, one on each line, in the order in which they began.
func (m Mistake) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s of %s: %s\n", m.Source, m.Challenge, m.Why)
	for _, c := range m.Calls {
		fmt.Fprintf(&out, "%12v to %12v  client %d  %-8s %-20s %-8s %s %s\n", c.Began, c.Ended, c.Client, c.Verb, c.Key, c.Outcome, c.Instance, c.Answer)
	}
	return out.String()
}

// Check looks, for each source of each challenge, for an order of its calls
// that explains every answer, in which no call takes effect before it began or
// after it was answered; and in which no instance ends earlier than somebody was
// told before. It returns the sources without one.
//
// This is linearizability (Herlihy and Wing, 1990), decided by porcupine.
func Check(h History) []Mistake {
	type source struct{ challenge, source string }
	of := map[source][]Call{}
	for _, c := range h.Calls {
		key := source{c.Challenge, c.Source}
		of[key] = append(of[key], c)
	}
	keys := slices.SortedFunc(maps.Keys(of), func(a, b source) int {
		return cmp.Or(cmp.Compare(a.challenge, b.challenge), cmp.Compare(a.source, b.source))
	})
	found := make([]*Mistake, len(keys))
	var group sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for n, key := range keys {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			mine := of[key]
			slices.SortFunc(mine, func(a, b Call) int { return cmp.Compare(a.Began, b.Began) })
			if why := h.explain(mine); why != "" {
				found[n] = &Mistake{key.challenge, key.source, why, mine}
			}
		})
	}
	group.Wait()
	var mistakes []Mistake
	for _, m := range found {
		if m != nil {
			mistakes = append(mistakes, *m)
		}
	}
	return mistakes
}

// explain returns what is wrong with the calls about one source, nothing if an
// order explains them.
func (h History) explain(calls []Call) string {
	if n := slices.IndexFunc(calls, func(c Call) bool { return c.Outcome == Wrong }); n >= 0 {
		return "the answer to " + string(calls[n].Verb) + " is never right: " + calls[n].Answer
	}
	late := func(c Call) bool {
		return h.Quiet > 0 && c.Began >= h.Quiet && (c.Outcome == Unclear || c.Outcome == Refused)
	}
	if n := slices.IndexFunc(calls, late); n >= 0 {
		return string(calls[n].Verb) + " has no clear answer although all is quiet: " + calls[n].Answer
	}
	if why := forgotten(calls); why != "" {
		return why
	}
	steps, classes := h.operations(calls)
	switch porcupine.CheckOperationsTimeout(model(classes), steps, searchFor) {
	case porcupine.Ok:
		return ""
	case porcupine.Illegal:
		return "no order of the calls explains the answers"
	}
	return "no order was found in " + searchFor.String()
}

// forgotten returns which end of an instance is earlier than what was told before,
// as if a renewal had been forgotten; nothing if none is.
func forgotten(calls []Call) string {
	for _, before := range calls {
		for _, c := range calls {
			if c.Instance != "" && c.Instance == before.Instance && before.Ended < c.Began && c.Until.Before(before.Until) {
				return fmt.Sprintf("%s of client %d shows an end of %v, and %s of client %d has shown %v", c.Verb, c.Client,
					c.Until, before.Verb, before.Client, before.Until)
			}
		}
	}
	return ""
}
