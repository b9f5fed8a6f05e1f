package faults_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// TestTally counts calls, and the longest of the times until all was well again for
// everybody.
func TestTally(t *testing.T) {
	t.Parallel()
	y := faults.Tally{Fault: "redis killed"}
	left := call(0, 19, 21, faults.Delete, faults.Unclear, "")
	left.Left = true
	y.Count(t, []faults.Call{
		call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 4, faults.Create, faults.Undone, ""), // begun when it was mended
		call(0, 5, 6, faults.Create, faults.Done, "a"), call(0, 10, 17, faults.Renew, faults.Done, "a"),
		left, call(0, 22, 23, faults.Renew, faults.Done, "a"), // no matter that it left
		call(1, 1, 9, faults.Retrieve, faults.Done, "a"),                                                   // begun before
		call(1, 9, 10, faults.Delete, faults.Unclear, ""), call(1, 10, 13, faults.Delete, faults.Done, ""), // the longest
		call(1, 18, 27, faults.Query, faults.Unclear, ""), call(1, 18, 27, faults.Query, faults.Done, "a"), // one, about two challenges
	}, []time.Duration{2 * time.Second, 10 * time.Second, 18 * time.Second, 30 * time.Second}, time.Minute)
	var out strings.Builder
	other := faults.Tally{Fault: "other", Strikes: 1, Calls: 2, Unclear: 3, Contradictions: 4, Lost: 5, Doubled: 6, Unrecorded: 7, Apart: 8, Stuck: 9, Recovery: time.Second}
	if err := faults.Print(&out, []faults.Tally{y, other}); err != nil {
		t.Fatal(err)
	}
	got := [][]string{}
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	want := [][]string{
		{"fault", "times", "calls", "unclear", "contradictions", "lost", "doubled", "unrecorded", "apart", "stuck", "longest", "recovery"},
		{"redis", "killed", "4", "10", "4", "0", "0", "0", "0", "0", "0", "11s"},
		{"other", "1", "2", "3", "4", "5", "6", "7", "8", "9", "1s"},
		{"all", "5", "12", "7", "4", "5", "6", "7", "8", "9", "11s"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
