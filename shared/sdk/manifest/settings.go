package manifest

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// check says what is wrong with a value, or nothing.
func (s setting) check(value string) string {
	if strings.ContainsRune(value, 0) {
		return "must not have a NUL byte in it"
	}
	switch s.Type {
	case "integer":
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Sprintf("must be an integer, and is %.100q", value)
		}
	case "boolean":
		if value != "true" && value != "false" {
			return fmt.Sprintf("must be true or false, and is %.100q", value)
		}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value) {
		return fmt.Sprintf("must be %s, and is %.100q", choice(s.Enum), value)
	}
	if s.Pattern != "" {
		whole, err := regexp.Compile(`\A(?:` + s.Pattern + `)\z`)
		if err != nil || !whole.MatchString(value) {
			return fmt.Sprintf("must match %s, and is %.100q", s.Pattern, value)
		}
	}
	return ""
}

// checkSettings finds what is wrong with the declarations.
func (m *Manifest) checkSettings() []fault {
	var faults []fault
	for _, name := range m.tree.order(path{"overridable"}) {
		s, at := m.doc.Overridable[name], path{"overridable", name}
		if _, err := regexp.Compile(s.Pattern); err != nil { // by itself: ")|(" is one within parentheses
			faults = append(faults, fault{
				at: at.child("pattern"), rule: "value", message: fmt.Sprintf("%.100q is no regular expression: %v", s.Pattern, err),
			})
			continue
		}
		if s.Required && s.Default != nil {
			faults = append(faults, fault{
				at: at.child("required"), rule: "value", message: "required and default exclude each other", fix: "remove one of the two",
			})
		}
		unlisted := s
		unlisted.Enum, unlisted.Pattern = nil, ""
		for i, value := range s.Enum {
			if wrong := unlisted.check(value); wrong != "" {
				faults = append(faults, fault{at: at.child("enum").child(strconv.Itoa(i)), rule: "value", message: "it " + wrong})
			}
		}
		if s.Default != nil {
			if wrong := s.check(*s.Default); wrong != "" {
				faults = append(faults, fault{at: at.child("default"), rule: "value", message: "it " + wrong})
			}
		}
	}
	return faults
}

// settings are the values of all settings that are declared, for a request.
func (m *Manifest) settings(additional map[string]string) (map[string]string, error) {
	values := make(map[string]string)
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(additional)) {
		if _, ok := m.doc.Overridable[name]; ok {
			continue
		}
		declared := "it declares none"
		if names := slices.Sorted(maps.Keys(m.doc.Overridable)); len(names) > 0 {
			declared = "those that it declares are " + strings.Join(names, ", ")
		}
		wrong = append(wrong, fmt.Errorf("the scenario has no additional setting %.100q: %s", name, declared))
	}
	for _, name := range slices.Sorted(maps.Keys(m.doc.Overridable)) {
		s := m.doc.Overridable[name]
		value, given := additional[name]
		switch {
		case !given && s.Required:
			wrong = append(wrong, fmt.Errorf("the additional setting %q is missing%s", name, hint(s)))
		case !given && s.Default != nil:
			values[name] = *s.Default
		case !given:
			values[name] = ""
		default:
			values[name] = value
			if is := s.check(value); is != "" {
				wrong = append(wrong, fmt.Errorf("the additional setting %q %s", name, is))
			}
		}
	}
	return values, errors.Join(wrong...)
}

func hint(s setting) string {
	if s.Description == "" {
		return ""
	}
	return ": " + s.Description
}

// samples are values for a check without a request, and the names of those that
// are made up.
func (m *Manifest) samples() (values map[string]string, madeUp map[string]bool) {
	values, madeUp = make(map[string]string), make(map[string]bool)
	for name, s := range m.doc.Overridable {
		switch {
		case s.Default != nil:
			values[name] = *s.Default
		case len(s.Enum) > 0:
			values[name] = s.Enum[0]
		default:
			values[name], madeUp[name] = "1", true
		}
	}
	return values, madeUp
}
