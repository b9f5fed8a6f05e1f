package main_test

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func megabytes(n int) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// printAligned prints lines of cells in columns.
func printAligned(out io.Writer, title string, align uint, write func(line func(cells ...any))) {
	fmt.Fprint(out, "\n", title, "\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', align)
	write(func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t)
	})
	_ = t.Flush() // it fails where printing would, and nobody reads that
}

func printTable(out io.Writer, rows []row) {
	title := "Mayfly over HTTP. A health check asks Redis for a PING; a program is the start of\n" +
		"the scenario alone. Memory is the highest while it was measured."
	printAligned(out, title, tabwriter.AlignRight, func(line func(...any)) {
		line("verb", "stored", "callers", "p50", "p95", "per second", "memory", "workers")
		for _, verb := range []string{"create", "delete", "claim", "retrieve", "query", "renew", "health", "program"} {
			for _, r := range rows {
				if r.verb == verb {
					line(r.verb, r.stored, r.callers, milliseconds(r.p50), milliseconds(r.p95),
						fmt.Sprintf("%.0f", r.rate), megabytes(r.peak), megabytes(r.workers))
				}
			}
		}
	})
}

func printCurve(out io.Writer, curve []point) {
	title := "Memory over a mix of all verbs, 6 % of which run the engine."
	printAligned(out, title, tabwriter.AlignRight, func(line func(...any)) {
		line("operations", "highest", "idle", "workers", "how many")
		for _, p := range curve {
			line(p.operations, megabytes(p.peak), megabytes(p.idle), megabytes(p.workers), p.running)
		}
	})
}

// find returns the rows of a verb by as many callers, those with few stored
// instances first.
func find(rows []row, verb string, callers int) []row {
	var found []row
	for _, r := range rows {
		if r.verb == verb && r.callers == callers {
			found = append(found, r)
		}
	}
	return found
}

// printRatios sets what was measured in relation to what no design can avoid,
// which says more than a figure of one machine.
func printRatios(out io.Writer, rows []row) {
	pairs := [][2]string{{"create", "program"}, {"claim", "health"}, {"retrieve", "health"}, {"query", "health"}, {"renew", "health"}}
	printAligned(out, "One caller's p50 as a multiple, measured in the same run.", tabwriter.AlignRight, func(line func(...any)) {
		line("verb", "stored", "multiple", "of")
		for _, pair := range pairs {
			base := find(rows, pair[1], 1)
			for n, r := range find(rows, pair[0], 1) {
				line(r.verb, r.stored, fmt.Sprintf("%.2f", float64(r.p50)/float64(base[n].p50)), pair[1])
			}
		}
	})
}

// An aim is a promise about speed or memory.
type aim struct {
	what             string
	wanted, measured string
	// missed is by how much of what was wanted; not above 0 is met.
	missed float64
}

func aims(rows []row) []aim {
	slowest := func(verb string, limit time.Duration) aim {
		var worst time.Duration
		for _, r := range find(rows, verb, 1) {
			worst = max(worst, r.p50)
		}
		return aim{verb + ", p50 of one caller", "< " + milliseconds(limit), milliseconds(worst), float64(worst)/float64(limit) - 1}
	}
	const wantedRate = 25
	creates := find(rows, "create", 50)
	rate := creates[0].rate
	for _, r := range creates {
		rate = min(rate, r.rate)
	}
	return []aim{
		slowest("create", 60*time.Millisecond),
		{"create by 50 callers", fmt.Sprintf(">= %d/s", wantedRate), fmt.Sprintf("%.1f/s", rate), wantedRate/rate - 1},
		slowest("claim", 2*time.Millisecond),
		slowest("retrieve", time.Millisecond),
	}
}

// A comparison is the median of one caller's retrieves with few and with many
// stored instances, measured by turns.
type comparison struct {
	few, many         int
	withFew, withMany time.Duration
}

func sameRetrieve(c comparison) aim {
	const noise = 1.15 // what two measurements of the same may differ by
	ratio := float64(c.withMany) / float64(c.withFew)
	return aim{
		fmt.Sprintf("retrieve with %d stored, against %d by turns", c.many, c.few),
		fmt.Sprintf("< %.2f", noise),
		fmt.Sprintf("%.2f (%s, %s)", ratio, milliseconds(c.withMany), milliseconds(c.withFew)), ratio/noise - 1,
	}
}

// flatMemory compares the ends of the curve.
func flatMemory(curve []point) aim {
	const noise = 1.1
	first, last := curve[0], curve[len(curve)-1]
	ratio := float64(last.idle) / float64(first.idle)
	return aim{
		fmt.Sprintf("memory after %d operations, against %d", last.operations, first.operations),
		fmt.Sprintf("< %.2f", noise), fmt.Sprintf("%.2f", ratio), ratio/noise - 1,
	}
}

func printAims(out io.Writer, all []aim) {
	printAligned(out, "Aims, at the worst of all that is stored.", 0, func(line func(...any)) {
		line("aim", "wanted", "measured", "")
		for _, a := range all {
			verdict := "met"
			if a.missed > 0 {
				verdict = fmt.Sprintf("MISSED by %.0f %%", 100*a.missed)
			}
			line(a.what, a.wanted, a.measured, verdict)
		}
	})
}
