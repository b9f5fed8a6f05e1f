package engine_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// TestUpstreamProgram runs a program that is built with chall-manager's own
// SDK. Its compilation takes about a minute when nothing is cached.
func TestUpstreamProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	binary := filepath.Join(t.TempDir(), "main")
	if err := build("./testdata/upstream", binary, "GOWORK=off"); err != nil {
		t.Fatal(err)
	}
	p := program("0123456789abcdef", "port", "1337")
	p.Scenario = push(shared, "upstream", binary)
	if err := s.Preview(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	got := s.mustUp(t, p, l)
	got.Base = nil
	want := ctf.Result{ConnectionInfo: "nc 0123456789abcdef 1337", Flags: got.Flags}
	if diff := cmp.Diff(want, got); diff != "" || len(got.Flags) != 1 || len(got.Flags[0]) != len("flag") {
		t.Errorf("(-want +got)\n%s\nflags %v", diff, got.Flags)
	}
	s.mustDown(t, "0123456789abcdef", l)
}
