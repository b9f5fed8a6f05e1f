package manifest_test

import (
	"fmt"
	"strings"
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

// Containers that name many others are read as fast as others, though one leads
// to another in a great many ways.
func TestContainersThatNameAllBefore(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("name: dense\nflags: {flag: \"CTF{x}\"}\ncontainers:\n")
	for i := range 40 {
		fmt.Fprintf(&text, "  c%d:\n    image: registry.example/c:1\n    ports: [{port: 80, expose: ingress}]\n    env:\n      FLAG: ${flag}\n", i)
		for j := range i {
			fmt.Fprintf(&text, "      TO%d: ${service.c%d}\n", j, j)
		}
	}
	if _, err := manifest.Parse([]byte(text.String())); err != nil {
		t.Error(err)
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

func BenchmarkReader(b *testing.B) {
	var reader manifest.Reader
	for b.Loop() {
		if _, err := reader.Load("../examples/shop/scenario"); err != nil {
			b.Fatal(err)
		}
	}
}
