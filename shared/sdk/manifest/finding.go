package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Severity says how bad a finding is.
type Severity string

const (
	// SeverityError is a mistake: the manifest can't be used.
	SeverityError Severity = "error"
	// SeverityWarning is a danger that few authors want.
	SeverityWarning Severity = "warning"
	// SeverityInfo is worth a look.
	SeverityInfo Severity = "info"
)

// A Finding is something about a manifest that its author should know.
type Finding struct {
	// Line and Column begin at 1; Column counts bytes.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path leads to what is meant, such as containers.web.image; it is empty for
	// the manifest as a whole.
	Path     string   `json:"path"`
	Severity Severity `json:"severity"`
	// Rule names what was looked for, such as no-limits.
	Rule string `json:"rule"`
	// Message says what is wrong, and Fix what to do about it.
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

// String is the finding in one line: where, what and what to do.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Fix != "" {
		b.WriteString(": " + f.Fix)
	}
	return b.String()
}

// An InvalidError lists everything that is wrong with a manifest, in the order
// of its lines.
type InvalidError struct {
	Findings []Finding
}

// Error has a line for each finding, as in mayfly.yaml:3:5: what is wrong.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = File + ":" + f.String()
	}
	return strings.Join(lines, "\n")
}

// order sorts findings by where they are, and drops what is said twice.
func order(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(found)
}
