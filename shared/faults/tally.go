package faults

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"text/tabwriter"
	"time"
)

// A Tally is what came of one fault.
type Tally struct {
	Fault string
	// Strikes is how often it struck, and somebody met it.
	Strikes int
	// Calls are all that clients made, Unclear and Undone those that ended so.
	Calls, Unclear, Undone int
	// Contradictions are sources whose answers contradict each other.
	Contradictions int
	// Lost are instances on record that do not run, Doubled those of which there
	// is one too many, and Unrecorded what runs without a record.
	Lost, Doubled, Unrecorded int
	// Apart are indexes, pools, leases and checkpoints that do not agree with records.
	Apart int
	// Stuck are calls that took too long, and records that come to no end.
	Stuck int
	// Recovery is the longest from the beginning of mending until every client has
	// had a clear answer to a call that it made since.
	Recovery time.Duration
}

// Note counts a mistake in one of the tally's columns and fails the test.
func (y *Tally) Note(t testing.TB, column *int, format string, args ...any) {
	t.Helper()
	*column++
	t.Errorf(format, args...)
}

// Count fills in what the calls tell, none of which may take longer than late, and
// how long it took after each moment of mending.
func (y *Tally) Count(t testing.TB, calls []Call, mending []time.Duration, late time.Duration) {
	t.Helper()
	y.Strikes, y.Calls = len(mending), 0
	for n, c := range calls {
		if n > 0 && c.Verb == Query && calls[n-1].Client == c.Client && calls[n-1].Began == c.Began {
			continue // the same one, about another challenge
		}
		y.Calls++
		if c.Outcome == Unclear {
			y.Unclear++
		}
		if c.Outcome == Undone {
			y.Undone++
		}
		if c.Ended-c.Began > late {
			y.Note(t, &y.Stuck, "%s of client %d took %v: %s", c.Verb, c.Client, c.Ended-c.Began, c.Answer)
		}
	}
	for _, at := range mending {
		y.Recovery = max(y.Recovery, recovery(calls, at))
	}
}

// recovery is how long after a moment the last client had a clear answer to a call
// that it made since. One that never had one counts as far as it went; a call that
// was given up says nothing of Mayfly.
func recovery(calls []Call, at time.Duration) (longest time.Duration) {
	answered := map[int]bool{}
	for _, c := range calls { // those of each client are in order
		if c.Began < at || c.Left || answered[c.Client] {
			continue
		}
		longest = max(longest, c.Ended-at)
		answered[c.Client] = c.Outcome != Unclear
	}
	return longest
}

// Print writes a table with a line for each tally, and one for all of them.
func Print(to io.Writer, tallies []Tally) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\ttimes\tcalls\tunclear\tcontradictions\tlost\tdoubled\tunrecorded\tapart\tstuck\tlongest recovery\t")
	all := Tally{Fault: "all"}
	for _, y := range tallies {
		all.Strikes += y.Strikes
		all.Calls += y.Calls
		all.Unclear += y.Unclear
		all.Undone += y.Undone
		all.Contradictions += y.Contradictions
		all.Lost += y.Lost
		all.Doubled += y.Doubled
		all.Unrecorded += y.Unrecorded
		all.Apart += y.Apart
		all.Stuck += y.Stuck
		all.Recovery = max(all.Recovery, y.Recovery)
	}
	for _, y := range append(slices.Clone(tallies), all) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", y.Fault, y.Strikes, y.Calls, y.Unclear,
			y.Contradictions, y.Lost, y.Doubled, y.Unrecorded, y.Apart, y.Stuck, y.Recovery.Round(time.Millisecond))
	}
	return w.Flush()
}
