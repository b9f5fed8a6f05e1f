//go:build cluster

package main_test

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// A step is what lies between two points of a timeline.
type step struct {
	name, by string
	span     func(t timeline) time.Duration
}

func steps() []step {
	return []step{
		{"until the Deployment is accepted", "client, API server", func(t timeline) time.Duration { return t.accepted.Sub(t.called) }},
		{"until its pod is made", "controllers", func(t timeline) time.Duration { return t.podded.Sub(t.accepted) }},
		{"until that has a node", "scheduler", func(t timeline) time.Duration { return t.placed.Sub(t.podded) }},
		{"until that is ready", "kubelet", func(t timeline) time.Duration { return t.ready.Sub(t.placed) }},
		{"until the Deployment is available", "controllers", func(t timeline) time.Duration { return t.available.Sub(t.ready) }},
		{"until the answer", "client", func(t timeline) time.Duration { return t.answered.Sub(t.available) }},
		{"together", "", total},
		{"all but the cluster's", "client, API server", own},
	}
}

func total(t timeline) time.Duration { return t.answered.Sub(t.called) }

// own is the time in which the cluster had nothing to do for the pod.
func own(t timeline) time.Duration { return total(t) - t.available.Sub(t.accepted) }

// percentiles returns the middle and the 95th of a hundred.
func percentiles(all []timeline, span func(timeline) time.Duration) (p50, p95 time.Duration) {
	var spans []time.Duration
	for _, t := range all {
		spans = append(spans, span(t))
	}
	p50 = median(spans) // it sorts them, too
	return p50, spans[len(spans)*95/100]
}

type comparedOne struct{ mayfly, kubectl []timeline }

func (c comparedOne) ratio() float64 {
	ours, _ := percentiles(c.mayfly, total)
	theirs, _ := percentiles(c.kubectl, total)
	return float64(ours) / float64(theirs)
}

func printSteps(out io.Writer, title string, mayfly, kubectl []timeline) {
	printAligned(out, title, tabwriter.AlignRight, func(line func(...any)) {
		line("", "by", "mayfly p50", "p95", "kubectl p50", "p95")
		for _, s := range steps() {
			ours, oursLate := percentiles(mayfly, s.span)
			theirs, theirsLate := percentiles(kubectl, s.span)
			line(s.name, s.by, milliseconds(ours), milliseconds(oursLate), milliseconds(theirs), milliseconds(theirsLate))
		}
	})
}

func printOne(out io.Writer, c comparedOne) {
	printSteps(out, fmt.Sprintf("One instance of one pod, %d of each in turn: Mayfly's create, and kubectl apply and wait\n"+
		"with the same objects.", len(c.mayfly)), c.mayfly, c.kubectl)
	fmt.Fprintf(out, "\nMayfly takes %.2f times as long as kubectl.\n", c.ratio())
}

// lasted is the time from the call until all are available.
func lasted(all []timeline) time.Duration {
	begin := slices.MinFunc(all, func(a, b timeline) int { return a.called.Compare(b.called) }).called
	end := slices.MaxFunc(all, func(a, b timeline) int { return a.answered.Compare(b.answered) }).answered
	return end.Sub(begin)
}

func (c crowd) ratio() float64 { return float64(lasted(c.mayfly)) / float64(lasted(c.kubectl)) }

func printCrowd(out io.Writer, c crowd) {
	printAligned(out, fmt.Sprintf("%d instances of one pod at once. Memory is the highest, for workers what they do not\n"+
		"share; processor time is that of Mayfly with its workers, and of the whole machine.", c.count), tabwriter.AlignRight, func(line func(...any)) {
		line("by", "all ready after", "per second", "memory", "workers", "how many", "processor", "machine")
		for i, all := range [][]timeline{c.mayfly, c.kubectl} {
			span := lasted(all).Seconds()
			cells := []any{"mayfly", seconds(lasted(all)), fmt.Sprintf("%.2f", float64(c.count)/span),
				megabytes(c.peak), megabytes(c.workers), c.running, seconds(c.busy[i].ours), seconds(c.busy[i].machine)}
			if i == 1 {
				cells = []any{"kubectl", cells[1], cells[2], "", "", "", "", cells[7]}
			}
			line(cells...)
		}
	})
	printSteps(out, fmt.Sprintf("Where the time of %d at once goes. What waits for its turn waits in the first line.", c.count), c.mayfly, c.kubectl)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func printWays(out io.Writer, ways []way) {
	printAligned(out, fmt.Sprintf("The same containers described by a program and by a manifest, %d of each in turn. To\n"+
		"register a challenge is to try it.", len(ways[0].create)), tabwriter.AlignRight, func(line func(...any)) {
		line("", "try p50", "p95", "create p50", "p95")
		for _, w := range ways {
			tried, created := median(w.preview), median(w.create) // it sorts them, too
			late := len(w.create) * 95 / 100
			line(w.name, milliseconds(tried), milliseconds(w.preview[late]), milliseconds(created), milliseconds(w.create[late]))
		}
	})
}

func clusterAims(one comparedOne, crowds []crowd) []aim {
	const near, share = 1.1, 100 * time.Millisecond
	mine, _ := percentiles(one.mayfly, own)
	aims := []aim{
		{"one instance, against kubectl", fmt.Sprintf("< %.2f", near), fmt.Sprintf("%.2f", one.ratio()), one.ratio()/near - 1},
		{"of that what is not the cluster's", "< " + milliseconds(share), milliseconds(mine), float64(mine)/float64(share) - 1},
	}
	for _, c := range crowds {
		aims = append(aims, aim{
			fmt.Sprintf("%d instances at once, against kubectl", c.count), fmt.Sprintf("< %.2f", near), fmt.Sprintf("%.2f", c.ratio()), c.ratio()/near - 1,
		})
	}
	return aims
}
