package manifest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// The examples of the documentation are right.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/manifest.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 3 {
		t.Errorf("there are %d examples", len(blocks))
	}
	for _, block := range blocks {
		example, _, _ := strings.Cut(block, "```")
		m, err := manifest.Parse([]byte(example))
		if err != nil {
			t.Errorf("%s\n%v", example, err)
			continue
		}
		if _, err := deploy(t, m, platform(), settingsOf(example)...); err != nil {
			t.Errorf("%s\n%v", example, err)
		}
		for _, f := range manifest.Lint([]byte(example)) {
			if f.Severity == manifest.SeverityWarning {
				t.Errorf("%s\n%s", example, f)
			}
		}
	}
}

func settingsOf(example string) []string {
	if strings.Contains(example, "overridable") {
		return []string{"secret", secret}
	}
	return nil
}
