package manifest

import (
	"bytes"
	_ "embed" // the schema
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed schema.json
var schema string

// Schema returns the JSON Schema (draft 2020-12) of manifests. Editors complete
// and explain manifests by it; [Parse] checks by it.
func Schema() []byte { return []byte(schema) }

// A shape is the schema, ready to check manifests against.
type shape struct {
	source   any
	compiled *jsonschema.Schema
}

// A comparison is one of a manifest with the schema.
type comparison struct {
	*shape
	printer *message.Printer
	keys    map[string]*yaml.Node // of the manifest
}

func newShape() (*shape, error) {
	source, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("read the schema of manifests: %w", err)
	}
	const name = "mayfly.json"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, source); err != nil {
		return nil, fmt.Errorf("read the schema of manifests: %w", err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("read the schema of manifests: %w", err)
	}
	return &shape{source: source, compiled: compiled}, nil
}

// check returns where a tree is not as the schema has it.
func (s *shape) check(t *tree) []fault {
	var failed *jsonschema.ValidationError
	if !errors.As(s.compiled.Validate(t.value), &failed) {
		return nil
	}
	c := comparison{shape: s, printer: message.NewPrinter(language.English), keys: t.keys}
	known := func(f fault) bool {
		return slices.ContainsFunc(t.faults, func(other fault) bool { return slices.Equal(other.at, f.at) })
	}
	return slices.DeleteFunc(c.faults(failed), known)
}

// misnamed are the keys that a name is wrong for. The error does not tell where
// they are: the place of its schema has the key above.
func (c *comparison) misnamed(e *jsonschema.ValidationError, name string) []fault {
	steps := strings.Split(e.SchemaURL, "/")
	above := steps[max(0, len(steps)-2)]
	var found []fault
	for id := range c.keys {
		at := path(strings.Split(id, "\x00"))
		if len(at) < 2 || at[len(at)-1] != name || at[len(at)-2] != above {
			continue
		}
		f := fault{at: at, key: true, rule: "name", message: fmt.Sprintf("%.100q is no name for it", name)}
		if len(e.Causes) > 0 {
			f.fix = c.explain(e.Causes[0])
		}
		found = append(found, f)
	}
	return found
}

// faults are those of the leaves, which say what is wrong.
func (c *comparison) faults(e *jsonschema.ValidationError) []fault {
	at := path(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		var found []fault
		for _, name := range k.Properties {
			found = append(found, fault{
				at: at.child(name), key: true, rule: "unknown-key", message: fmt.Sprintf("there is no key %.100q here", name),
				fix: c.suggest(e.SchemaURL, name),
			})
		}
		return found
	case *kind.PropertyNames:
		return c.misnamed(e, k.Property)
	case *kind.Required:
		var found []fault
		for _, name := range k.Missing {
			found = append(found, fault{
				at: at.child(name), rule: "missing-key", message: "it is missing", fix: c.describe(e.SchemaURL, name),
			})
		}
		return found
	case *kind.OneOf:
		return []fault{{at: at, key: true, rule: "value", message: "it must have exactly one of random and varied"}}
	case *kind.Not:
		return []fault{{at: at, rule: "value", message: "true says nothing", fix: "write false, or how to probe, such as {http: /}"}}
	}
	if len(e.Causes) > 0 {
		var found []fault
		for _, cause := range e.Causes {
			found = append(found, c.faults(cause)...)
		}
		return found
	}
	return []fault{{at: at, rule: "value", message: c.explain(e), fix: advice(e.ErrorKind)}}
}

// advice names the value that was probably meant.
func advice(k jsonschema.ErrorKind) string {
	wrong, ok := k.(*kind.Enum)
	if !ok {
		return ""
	}
	for _, want := range wrong.Want {
		if near(fmt.Sprint(wrong.Got), fmt.Sprint(want)) {
			return fmt.Sprintf("did you mean %v?", want)
		}
	}
	return ""
}

// explain says in one line what is wrong with a value.
func (c *comparison) explain(e *jsonschema.ValidationError) string {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Pattern:
		if text, ok := c.at(e.SchemaURL)["patternErrorMessage"].(string); ok {
			return text
		}
	case *kind.Type:
		var want []string
		for _, name := range k.Want {
			want = append(want, spoken(name))
		}
		return fmt.Sprintf("it must be %s, and is %s", choice(want), spoken(k.Got))
	case *kind.Minimum:
		return fmt.Sprintf("it must be at least %s, and is %s", k.Want.RatString(), k.Got.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("it must be at most %s, and is %s", k.Want.RatString(), k.Got.RatString())
	case *kind.MinLength, *kind.MinItems, *kind.MinProperties:
		return "it is empty"
	case *kind.Enum:
		var want []string
		for _, value := range k.Want {
			want = append(want, fmt.Sprint(value))
		}
		return "it must be " + choice(want)
	}
	return e.ErrorKind.LocalizedString(c.printer)
}

// spoken is what authors call a type of JSON.
func spoken(name string) string {
	switch name {
	case "array":
		return "a list"
	case "object":
		return "keys with values"
	case "string":
		return "a text"
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	case "boolean":
		return "true or false"
	}
	return "nothing"
}

// choice lists words as in a, b or c.
func choice(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// at is the part of the schema that a URL names.
func (s *shape) at(url string) map[string]any {
	_, fragment, _ := strings.Cut(url, "#")
	part := s.source
	for step := range strings.SplitSeq(strings.Trim(fragment, "/"), "/") {
		object, ok := part.(map[string]any)
		if !ok {
			return nil
		}
		if step != "" {
			part = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
		}
	}
	object, _ := part.(map[string]any)
	return object
}

// properties are the keys that a part of the schema knows, in order.
func (s *shape) properties(url string) []string {
	known, _ := s.at(url)["properties"].(map[string]any)
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// suggest names the key that was probably meant, or all that there are.
func (s *shape) suggest(url, wrong string) string {
	known := s.properties(url)
	for _, name := range known {
		if near(wrong, name) {
			return "did you mean " + name + "?"
		}
	}
	return "there are " + strings.Join(known, ", ")
}

// describe is what the schema says of a key.
func (s *shape) describe(url, name string) string {
	known, _ := s.at(url)["properties"].(map[string]any)
	property, _ := known[name].(map[string]any)
	text, _ := property["description"].(string)
	return strings.TrimSuffix(text, ".")
}

// near tells whether two words differ by case, dashes, an s at the end, one
// letter, or two that changed places.
func near(a, b string) bool {
	fold := func(s string) []byte {
		s = strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
		return bytes.TrimSuffix([]byte(s), []byte("s"))
	}
	x, y := fold(a), fold(b)
	if len(x) > len(y) {
		x, y = y, x
	}
	same := 0
	for same < len(x) && x[same] == y[same] {
		same++
	}
	switch len(y) - len(x) {
	case 0:
		if same == len(x) || bytes.Equal(x[same+1:], y[same+1:]) {
			return true
		}
		return same+2 <= len(x) && x[same] == y[same+1] && x[same+1] == y[same] && bytes.Equal(x[same+2:], y[same+2:])
	case 1:
		return bytes.Equal(x[same:], y[same+1:])
	}
	return false
}
