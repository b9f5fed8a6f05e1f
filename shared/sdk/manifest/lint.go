package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// Lint returns everything that the author of a manifest should know, in the
// order of its lines: the mistakes, as errors, and the dangers that it has for
// who runs the event.
func Lint(data []byte) []Finding {
	m, found, err := parse(data)
	if wrong, ok := errors.AsType[*InvalidError](err); ok {
		return wrong.Findings
	}
	if err != nil {
		return []Finding{{Line: 1, Column: 1, Severity: SeverityError, Rule: "schema", Message: err.Error()}}
	}
	return order(append(found, m.dangers()...))
}

// A danger is a fault that does not make the manifest unusable.
type danger struct {
	fault
	severity Severity
}

// dangers looks for what would burn who runs the event.
func (m *Manifest) dangers() []Finding {
	var all []danger
	for _, name := range m.tree.order(path{"containers"}) {
		all = append(all, image(name, m.doc.Containers[name])...)
	}
	var found []Finding
	for _, d := range all {
		found = append(found, m.tree.finding(d.fault, d.severity))
	}
	return found
}

func warn(at path, rule, message, fix string) danger {
	return danger{fault{at: at, rule: rule, message: message, fix: fix}, SeverityWarning}
}

// image finds images that may be another tomorrow.
func image(name string, c container) []danger {
	if strings.Contains(c.Image, "@") || c.Image == "" {
		return nil
	}
	_, tag, tagged := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
	if tagged && tag != "latest" {
		return nil
	}
	return []danger{warn(path{"containers", name, "image"}, "latest-tag",
		fmt.Sprintf("%.100q may be another image tomorrow, and another on each node", c.Image),
		"name a version, or better a digest: registry/name@sha256:…")}
}
