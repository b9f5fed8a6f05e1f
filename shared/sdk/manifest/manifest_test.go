package manifest_test

import (
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

func TestStarter(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"web", "My Challenge!", "", "---"} {
		text := manifest.Starter(name)
		if _, err := manifest.Parse(text); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		for _, f := range manifest.Lint(text) {
			t.Errorf("%q: %s", name, f)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := manifest.Starter("web")
	for b.Loop() {
		if _, err := manifest.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
