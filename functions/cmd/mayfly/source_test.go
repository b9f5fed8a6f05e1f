package main_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestSourceScenario (A16): a scenario may be Go source where there is a Go
// toolchain; where there is none its author is told what to do.
func TestSourceScenario(t *testing.T) {
	files := map[string][]byte{
		"Pulumi.yaml": []byte("name: service\nruntime: go\n"),
		"go.mod":      goMod(t),
		"go.sum":      read(t, "../../go.sum"),
		"main.go":     read(t, "testdata/service/scenario/main.go"),
		"program":     read(t, build(t, "testdata/service/program", "-ldflags=-s -w")),
	}
	t.Run("with a toolchain", func(t *testing.T) {
		s := newServer(t, append(quiet, "GOPROXY=off", "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOCACHE="+goEnv(t, "GOCACHE"))...)
		s.Start()
		reference := pushTo(t, s.Registry, "source:1", files)
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference})
		answers(t, s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"}).ConnectionInfo)
		s.Must(http.MethodDelete, "/challenge/1", nil)
		wantNothingRunning(t, s)
	})
	t.Run("without one", func(t *testing.T) {
		s := newServer(t, append(quiet, "PATH="+pathWithout(t, "go"))...)
		s.Start()
		answer := s.try(t, http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushTo(t, s.Registry, "source:1", files)})
		wantFailure(t, answer, http.StatusInternalServerError, "SCENARIO_PREPROCESSING", "this server has no Go toolchain to compile it: build the program with")
		if answer := s.try(t, http.MethodGet, "/challenge/1", nil); answer.Status != http.StatusNotFound {
			t.Errorf("the challenge is there: %s", answer.Raw)
		}
	})
}

// goMod names the modules of these tests, at the versions whose sums go.sum
// holds: nothing is left to look up.
func goMod(t *testing.T) []byte {
	t.Helper()
	args := []string{"mod", "edit", "-module=source", "-print"}
	for _, own := range []string{"shared", "shared/sdk"} {
		own = "github.com/mayfly-ctf/mayfly/" + own
		args = append(args, "-droprequire="+own, "-dropreplace="+own)
	}
	return []byte(outputOf(t, "go", append(args, "../../go.mod")...))
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	return outputOf(t, "go", "env", name)
}

func outputOf(t *testing.T, program string, args ...string) string {
	t.Helper()
	text, err := exec.Command(program, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
