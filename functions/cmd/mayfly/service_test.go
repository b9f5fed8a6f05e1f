package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// pushService pushes a scenario whose instances are one small process each,
// and returns its reference.
func pushService(tb testing.TB, s *server, name string) string {
	tb.Helper()
	dir := tb.TempDir()
	for file, program := range map[string]string{
		"main":    build(tb, "testdata/service/scenario", "-ldflags=-s -w"),
		"program": build(tb, "testdata/service/program", "-ldflags=-s -w"),
	} {
		if err := os.Link(program, filepath.Join(dir, file)); err != nil {
			tb.Fatal(err)
		}
	}
	project := "name: service\nruntime:\n  name: go\n  options:\n    binary: ./main\n"
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(project), 0o600); err != nil {
		tb.Fatal(err)
	}
	reference := s.Registry + "/" + name
	if _, err := scenario.Push(tb.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{s.Registry}}); err != nil {
		tb.Fatal(err)
	}
	return reference
}
