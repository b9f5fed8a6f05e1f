package main

import (
	"testing"
	"time"
	"unicode"

	"github.com/spf13/pflag"
)

func FuzzParseDate(f *testing.F) {
	f.Add("31-12-2030")
	f.Add("2030-12-31T18:00:00Z")
	f.Add("0000-00-00T24:60:60+99:99")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseDate(text)
		if err != nil {
			return
		}
		if again, err := parseDate(at.Truncate(time.Second).Format(time.RFC3339)); err != nil || again.Sub(at).Abs() > time.Second {
			t.Errorf("%q is %s, and that is %s, %v", text, at, again, err)
		}
	})
}

func FuzzAdditional(f *testing.F) {
	f.Add("a=b", "c=d=e,f")
	f.Add("=", "a")
	f.Fuzz(func(t *testing.T, first, second string) {
		var pairs map[string]string
		flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
		registerAdditional(flags, &pairs, "")
		for _, text := range []string{first, second} {
			before := len(pairs)
			if err := flags.Set("additional", text); err != nil && len(pairs) != before {
				t.Errorf("%q is refused and taken", text)
			}
		}
		for key, value := range pairs {
			if key == "" || key+"="+value != first && key+"="+value != second {
				t.Errorf("%q is %q", key, value)
			}
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[2Jx\n\ty")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range printable(text, '\n') {
			if r != '\n' && unicode.IsControl(r) {
				t.Errorf("%q is printed", r)
			}
		}
	})
}
