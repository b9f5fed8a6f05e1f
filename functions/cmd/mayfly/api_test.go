package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/apitest"
)

// TestAPI runs the black-box suite on Mayfly with a Redis of its own.
func TestAPI(t *testing.T) {
	s := newServer(t, "SWAGGER=true", "LOG_LEVEL=warn", "TICK=1s")
	s.Start()
	apitest.Run(t, apitest.Target{
		BaseURL: s.URL, Registry: s.Registry, Swagger: true, Toolchain: true,
		Kill: func() { s.Kill(); s.Start() },
	})
	checkNothingLeft(t, s)
}

// TestAPIEmbedded runs it on a machine without redis-server, where nothing
// outlives a restart.
func TestAPIEmbedded(t *testing.T) {
	s := newServer(t, "SWAGGER=true", "LOG_LEVEL=warn", "TICK=1s", "PATH="+pathWithout(t, "redis-server"))
	s.Start()
	if !strings.Contains(s.log.String(), "nothing is kept") {
		t.Errorf("no warning that nothing is kept:\n%s", s.log)
	}
	apitest.Run(t, apitest.Target{BaseURL: s.URL, Registry: s.Registry, Swagger: true, Toolchain: true})
	checkNothingLeft(t, s)
}

func checkNothingLeft(t *testing.T, s *server) {
	t.Helper()
	if left := s.processes(); len(left) != 0 {
		t.Errorf("these still run: %v", left)
	}
}

// pathWithout returns a PATH with every program of the present one but this.
func pathWithout(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(from) // a PATH may name what is not there
		for _, e := range entries {
			if e.Name() != program {
				_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())) // the first one wins
			}
		}
	}
	return dir
}
