package manifest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"
)

// FuzzSettings gives a setting any value. What is taken is as it is declared.
func FuzzSettings(f *testing.F) {
	f.Add("string", "[a-z]+", "word")
	f.Add("integer", "", "-7")
	f.Add("boolean", "t.*", "true")
	f.Add("string", "a)|(b", "b\x00")
	f.Add("", "(?m)^a$|(?i:B)", "b")
	f.Fuzz(func(t *testing.T, kind, pattern, value string) {
		declared, err := json.Marshal(map[string]string{"type": kind, "pattern": pattern}) // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(fmt.Appendf(nil, "name: a\ncontainers: {a: {image: 'b:1', ports: [{port: 1, expose: nodeport}]}}\noverridable: {n: %s}\n", declared))
		if err != nil {
			return
		}
		pattern = m.doc.Overridable["n"].Pattern // without what is no UTF-8
		values, err := m.settings(map[string]string{"n": value})
		if err != nil {
			return
		}
		_, noNumber := strconv.ParseInt(value, 10, 64)
		switch {
		case values["n"] != value:
			t.Errorf("%q becomes %q", value, values["n"])
		case kind == "integer" && noNumber != nil, kind == "boolean" && value != "true" && value != "false":
			t.Errorf("%q is taken for a value of type %s", value, kind)
		case pattern != "" && !wholly(pattern, value):
			t.Errorf("%q is taken for %q", value, pattern)
		}
		if _, err := m.settings(map[string]string{"n": value, "o": ""}); err == nil {
			t.Error("a setting is taken that is not declared")
		}
	})
}

// wholly tells whether a pattern matches all of a value: then that is its
// longest match.
func wholly(pattern, value string) bool {
	matches := regexp.MustCompile(pattern)
	matches.Longest()
	at := matches.FindStringIndex(value)
	return at != nil && at[0] == 0 && at[1] == len(value)
}
