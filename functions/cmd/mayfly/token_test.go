package main_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestToken sets a token: who does not show it is told so, and everything of
// Mayfly's own goes on working.
func TestToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, append(quiet, "MAYFLY_TOKEN=correct horse")...)
	s.Start()
	if answer := s.try(t, http.MethodGet, "/challenge", nil); answer.Status != http.StatusUnauthorized {
		t.Errorf("without a token the answer is %d %s", answer.Status, answer.Raw)
	}
	list := func(token string) (string, error) {
		cmd := exec.Command(build(t, ".", programFlags()...), "challenge", "list", "--url", s.URL)
		cmd.Env = []string{"MAYFLY_TOKEN=" + token}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := list("correct horse"); err != nil {
		t.Errorf("with the token: %v\n%s", err, out)
	}
	if out, err := list("battery staple"); err == nil || !strings.Contains(out, "MAYFLY_TOKEN") {
		t.Errorf("with another: %v\n%s", err, out)
	}
	s.Tick("/reconcile")
}
