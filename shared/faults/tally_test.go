package faults_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// TestTally counts calls, and the longest of the times until all was well again.
func TestTally(t *testing.T) {
	t.Parallel()
	y := faults.Tally{Fault: "redis killed"}
	y.Count(t, []faults.Call{
		call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 4, faults.Create, faults.Undone, ""),
		call(1, 1, 9, faults.Retrieve, faults.Done, "a"), call(0, 5, 6, faults.Create, faults.Done, "a"), // too late for the first, and no matter for the second
		call(1, 10, 11, faults.Delete, faults.Unclear, ""), call(0, 10, 17, faults.Renew, faults.Done, "a"),
	}, []time.Duration{2 * time.Second, 10 * time.Second, 20 * time.Second}, time.Minute)
	var out strings.Builder
	if err := faults.Print(&out, []faults.Tally{y}); err != nil {
		t.Fatal(err)
	}
	got := [][]string{}
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	want := [][]string{
		{"fault", "times", "calls", "unclear", "contradictions", "lost", "doubled", "unrecorded", "apart", "stuck", "longest", "recovery"},
		{"redis", "killed", "3", "6", "2", "0", "0", "0", "0", "0", "0", "7s"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
