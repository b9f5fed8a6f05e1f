package engine

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	pulumi "github.com/pulumi/pulumi/pkg/v3/engine"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/pulumi/pulumi/sdk/v3/go/common/providers"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/result"
)

var (
	// errFailed: the words tell what failed.
	errFailed   = errors.New("failed")
	errNoStacks = errors.New("references to other stacks are not supported")
)

const (
	maxWords    = 10
	maxWordSize = 1 << 10 // bytes
)

// words collects what failed and why, in words that the author of a scenario
// understands.
type words struct {
	mu    sync.Mutex
	lines []string
}

// add notes what happened to a subject, which may be empty.
func (w *words) add(subject, message string) {
	message = plain(message)
	if message == "" || message == "update failed" {
		return // what Pulumi says of the stack when a resource failed
	}
	if subject != "" {
		message = subject + ": " + message
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) < maxWords && !slices.Contains(w.lines, message) {
		w.lines = append(w.lines, message)
	}
}

// fail notes an error and returns errFailed.
func (w *words) fail(subject string, err error) error {
	w.add(subject, err.Error())
	return errFailed
}

// failed notes the error of Pulumi's engine unless it was told in an event,
// and returns errFailed.
func (w *words) failed(err error) error {
	w.mu.Lock()
	told := len(w.lines) > 0
	w.mu.Unlock()
	if !told || !result.IsBail(err) {
		w.add("", err.Error())
	}
	return errFailed
}

// listen notes the errors among the engine's events.
func (w *words) listen(event pulumi.Event) {
	d, ok := event.Payload().(pulumi.DiagEventPayload)
	if ok && d.Severity == diag.Error && !d.Ephemeral {
		w.add(subject(d.URN), colors.Never.Colorize(d.Message))
	}
}

// String joins the words. Once a resource failed, the program is told that
// nobody listens any more, and complains; that is left out.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(w.lines), func(line string) bool {
		return strings.Contains(line, "resource monitor shut down") ||
			strings.Contains(line, "transport is closing") || strings.Contains(line, "error reading from server: EOF")
	})
	if len(kept) == 0 {
		kept = w.lines
	}
	if len(kept) == 0 {
		return "the program failed and did not say why"
	}
	return strings.Join(kept, "\n")
}

// subject is the resource's type and name. The stack itself is none, nor is a
// provider: no author wrote its name.
func subject(urn resource.URN) string {
	if urn == "" || urn.QualifiedType() == resource.RootStackType || providers.IsProviderType(urn.Type()) {
		return ""
	}
	return string(urn.Type()) + " " + urn.Name()
}

var (
	escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")
	// preambles are what Pulumi's SDK and engine wrap around an error.
	preambles = regexp.MustCompile(`^(an unhandled error occurred: |program failed: ?|waiting for RPCs: |` +
		`rpc error: code = \w+ desc = |error: |[0-9]+ errors? occurred:|\* |BAIL: |\s+)+`)
)

// plain takes colours, control characters and preambles out of a message, and
// bounds it.
func plain(message string) string {
	message = escapes.ReplaceAllString(message, "")
	message = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r != '\n' && unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(message, ""))
	message = strings.TrimSpace(preambles.ReplaceAllString(strings.TrimSpace(message), ""))
	if len(message) > maxWordSize {
		message = strings.ToValidUTF8(message[:maxWordSize], "") + "…"
	}
	return message
}
