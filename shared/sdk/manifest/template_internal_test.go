package manifest

import (
	"strings"
	"testing"
)

// FuzzParseTemplate writes down what it read, and reads that.
func FuzzParseTemplate(f *testing.F) {
	for _, text := range []string{"", "${flag}", "a${service.db:80}b", "$${x}", "$$${x}", "${", "${}", "${a.}", "$"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read, err := parseTemplate(text)
		if err != nil {
			return
		}
		var written strings.Builder
		for _, p := range read {
			if p.of == "" {
				written.WriteString(p.literal)
				continue
			}
			if strings.Contains(p.String(), "$${") {
				return // no name has that, and outside of names it is the text ${
			}
			written.WriteString(p.String())
		}
		if want := strings.ReplaceAll(text, "$${", "${"); written.String() != want {
			t.Errorf("%q is read as %q, want %q", text, written.String(), want)
		}
	})
}
