package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// What placeholders stand for: the first part of each.
const (
	ofFlag       = "flag"       // the only flag
	ofFlags      = "flags"      // flags.NAME
	ofIdentity   = "identity"   // the identity of the instance
	ofAdditional = "additional" // additional.NAME
	ofService    = "service"    // service.CONTAINER:PORT, the name inside the instance
	ofAddress    = "address"    // address.CONTAINER:PORT, what players connect to
	ofHost       = "host"       // and its parts
	ofPort       = "port"
	ofURL        = "url"
)

// A piece of a text is literal, or a placeholder.
type piece struct {
	literal string
	// of and name are the parts of ${of.name}.
	of, name string
}

func (p piece) String() string {
	if p.name == "" {
		return "${" + p.of + "}"
	}
	return "${" + p.of + "." + p.name + "}"
}

// A template is a text with placeholders.
type template []piece

// parseTemplate reads a text. $${ is the text ${ itself; a dollar sign that is
// followed by anything else is a dollar sign.
func parseTemplate(text string) (template, error) {
	var out template
	literal := func(s string) {
		if s != "" {
			out = append(out, piece{literal: s})
		}
	}
	for {
		begin := strings.Index(text, "${")
		if begin < 0 {
			literal(text)
			return out, nil
		}
		if begin > 0 && text[begin-1] == '$' {
			literal(text[:begin-1] + "${")
			text = text[begin+len("${"):]
			continue
		}
		literal(text[:begin])
		inner, rest, closed := strings.Cut(text[begin+len("${"):], "}")
		if !closed {
			return nil, fmt.Errorf("%.40q is a placeholder without an end", text[begin:])
		}
		of, name, named := strings.Cut(inner, ".")
		if of == "" || named && name == "" {
			return nil, fmt.Errorf("${%.40s} is no placeholder", inner)
		}
		out = append(out, piece{of: of, name: name})
		text = rest
	}
}

// has tells whether a placeholder of one of these kinds is in it.
func (t template) has(kinds ...string) bool {
	return slices.ContainsFunc(t, func(p piece) bool { return p.of != "" && slices.Contains(kinds, p.of) })
}

// secret tells whether a flag is in it.
func (t template) secret() bool { return t.has(ofFlag, ofFlags) }

// expand replaces the placeholders. What takes their place is not looked at
// again.
func (t template) expand(value func(piece) (string, error)) (string, error) {
	var out strings.Builder
	for _, p := range t {
		if p.of == "" {
			out.WriteString(p.literal)
			continue
		}
		text, err := value(p)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}
