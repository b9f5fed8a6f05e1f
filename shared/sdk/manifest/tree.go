package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize is how large a manifest may be, in bytes.
	maxSize = 1 << 20
	// maxDepth is how deep it may be nested: far more than any valid one is.
	maxDepth = 32
)

// A path leads from the top to a value: keys, and indexes of lists.
type path []string

func (p path) child(key string) path { return append(slices.Clone(p), key) }

// id is the path as a key of maps.
func (p path) id() string { return strings.Join(p, "\x00") }

// String is the path as authors read it: containers.web.ports[0].
func (p path) String() string {
	var b strings.Builder
	for i, part := range p {
		switch _, err := strconv.Atoi(part); {
		case err == nil && i > 0:
			b.WriteString("[" + part + "]")
		case i > 0:
			b.WriteString("." + part)
		default:
			b.WriteString(part)
		}
	}
	return b.String()
}

// within tells whether the value at p is part of the one at q, or is it.
func (p path) within(q path) bool { return len(p) >= len(q) && slices.Equal(p[:len(q)], q) }

// A tree is a manifest as YAML: its value as JSON has it, and where each part
// is in the text.
type tree struct {
	root   *yaml.Node
	value  any
	keys   map[string]*yaml.Node
	values map[string]*yaml.Node
	faults []fault
}

// A fault is a mistake that is yet to be given its line.
type fault struct {
	at           path
	key          bool // it is about the key, not its value
	rule         string
	message, fix string
}

func (t *tree) fail(at path, rule, message, fix string) {
	t.faults = append(t.faults, fault{at: at, rule: rule, message: message, fix: fix})
}

// yamlLine is how the YAML library says where it stumbled.
var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// readTree reads YAML. It fails if that is none; all other mistakes are in the
// tree's faults.
func readTree(data []byte) (*tree, error) {
	if len(data) > maxSize {
		return nil, invalid(1, "size", fmt.Sprintf("it has %d bytes, more than 1 MiB", len(data)), "put large files into the image")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, invalid(1, "syntax", "it is empty", "begin with name: and containers:")
	} else if err != nil {
		return nil, syntax(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, invalid(second.Line, "syntax", "a second document begins here", "a manifest is one document: remove the line ---")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntax(err)
	}
	t := &tree{keys: make(map[string]*yaml.Node), values: make(map[string]*yaml.Node)}
	t.root = document.Content[0]
	t.value = t.read(nil, t.root)
	return t, nil
}

func invalid(line int, rule, message, fix string) error {
	return &InvalidError{Findings: []Finding{{
		Line: max(line, 1), Column: 1, Severity: SeverityError, Rule: rule, Message: message, Fix: fix,
	}}}
}

func syntax(err error) error {
	message, line := err.Error(), 1
	if found := yamlLine.FindStringSubmatch(message); found != nil {
		message = message[len(found[0]):]
		line, _ = strconv.Atoi(found[1])
	}
	return invalid(line, "syntax", "it is no YAML: "+message, "check the indentation and quotes here and in the line before")
}

// read returns a node as JSON has it, and notes where its parts are.
func (t *tree) read(at path, node *yaml.Node) any {
	t.values[at.id()] = node
	switch {
	case len(at) > maxDepth:
		t.fail(at, "syntax", "it is nested too deeply", "")
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		t.fail(at, "alias", "anchors and aliases are not supported", "write the text out at each place")
	case node.Kind == yaml.MappingNode:
		return t.readMapping(at, node)
	case node.Kind == yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			list[i] = t.read(at.child(strconv.Itoa(i)), item)
		}
		return list
	default:
		return t.readScalar(at, node)
	}
	return nil
}

func (t *tree) readMapping(at path, node *yaml.Node) any {
	object := make(map[string]any, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		child := at.child(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "":
			t.values[child.id()] = key
			t.fail(child, "syntax", "a key must be a plain word", "")
			continue
		case key.ShortTag() == "!!merge":
			t.keys[child.id()] = key
			t.fail(child, "alias", "merging with << is not supported", "write the keys out")
			continue
		}
		if first, ok := t.keys[child.id()]; ok {
			t.keys[child.id()+"\x00"] = key
			t.faults = append(t.faults, fault{
				at: append(child, ""), key: true, rule: "duplicate-key",
				message: fmt.Sprintf("%q is there already, in line %d", key.Value, first.Line), fix: "remove one of the two",
			})
			continue
		}
		t.keys[child.id()] = key
		object[key.Value] = t.read(child, value)
	}
	return object
}

func (t *tree) readScalar(at path, node *yaml.Node) any {
	switch node.ShortTag() {
	case "!!str", "!!timestamp":
		return node.Value
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var value any
		if err := node.Decode(&value); err != nil {
			t.fail(at, "syntax", fmt.Sprintf("%.100q can't be read: %v", node.Value, err), "put it in quotes if it is meant as a text")
			return nil
		}
		if f, ok := value.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			t.fail(at, "syntax", fmt.Sprintf("%q is no number that can be used", node.Value), "put it in quotes if it is meant as a text")
			return nil
		}
		return value
	}
	t.fail(at, "syntax", fmt.Sprintf("the tag %.100s is not supported", node.Tag), "remove it")
	return nil
}

// finding gives a fault its place: that of the value if it is on one line, else
// that of its key, else that of what it is part of.
func (t *tree) finding(f fault, severity Severity) Finding {
	out := Finding{
		Line: 1, Column: 1, Path: strings.TrimSuffix(f.at.String(), "."),
		Severity: severity, Rule: f.rule, Message: f.message, Fix: f.fix,
	}
	for at := f.at; ; at = at[:len(at)-1] {
		key, value := t.keys[at.id()], t.values[at.id()]
		node := value
		if key != nil && (f.key || value == nil || value.Kind != yaml.ScalarNode) {
			node = key
		}
		if node != nil && node.Line > 0 {
			out.Line, out.Column = node.Line, node.Column
			return out
		}
		if len(at) == 0 {
			return out
		}
	}
}

// order returns the keys of a mapping as they come.
func (t *tree) order(at path) []string {
	node := t.values[at.id()]
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(node.Content); i += 2 {
		if key := node.Content[i].Value; !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}
