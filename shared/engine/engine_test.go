package engine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
)

func TestUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tests := map[string]struct {
		additional []string
		want       ctf.Result
	}{
		"components_and_secret_flags": {nil, ctf.Result{ConnectionInfo: "nc ID", Flags: []string{"FLAG{1}", "FLAG{2}"}}},
		"no_outputs":                  {[]string{"mode", "silent"}, ctf.Result{}},
		"flag_before_flags": {[]string{"mode", "flag"},
			ctf.Result{ConnectionInfo: "nc ID", Flags: []string{"FLAG{0}", "FLAG{1}", "FLAG{2}"}}},
		"100_MB_printed": {[]string{"mode", "flood"}, ctf.Result{ConnectionInfo: "nc ID", Flags: []string{"FLAG{1}", "FLAG{2}"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, l := ctf.NewIdentity(), newLedger()
			got, err := s.Up(t.Context(), program(id, test.additional...), ctf.Checkpoint{}, l)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Base) == 0 {
				t.Error("no base")
			}
			got.Base = nil
			test.want.ConnectionInfo = strings.ReplaceAll(test.want.ConnectionInfo, "ID", string(id))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if n := len(l.Checkpoint().Journal); n != 0 {
				t.Errorf("%d journal entries about nothing", n)
			}
		})
	}
}

func TestUpFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) {
		o.ScenarioTimeout = 15 * time.Second // enough to print 100 MB on a busy machine
		o.ScenarioMemory = 256 << 20
	})
	tests := map[string]struct {
		additional []string
		want       string
	}{
		"connection_info_is_no_string": {[]string{"mode", "number"}, "output connection_info: must be a string and is a number"},
		"a_flag_is_no_string":          {[]string{"mode", "number-flag"}, "output flags: item 2 must be a string and is a number"},
		"flags_is_no_list":             {[]string{"mode", "text-flags"}, "output flags: must be a list of strings and is a string"},
		"returns_an_error":             {[]string{"mode", "error"}, "the author's mistake"},
		"exits_with_1":                 {[]string{"mode", "exit"}, "the program ended with exit status 1: cannot go on"},
		"prints_and_exits_with_1": {[]string{"mode", "flood-exit"},
			"the program ended with exit status 1: " + strings.Repeat("x", 200) + "…\ncannot go on"},
		"panics":                {[]string{"mode", "panic"}, "the program panicked: the author's bug"},
		"hangs":                 {[]string{"mode", "hang"}, "the program did not end within its time limit of 15s"},
		"allocates_without_end": {[]string{"mode", "hog"}, "the program ran out of memory, it may use 256 MiB"},
		"a_provider_nobody_has": {[]string{"mode", "unknown"}, `the provider "nobody": this server does not offer it`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, l := ctf.NewIdentity(), newLedger()
			_, err := s.Up(t.Context(), program(id, test.additional...), ctf.Checkpoint{}, l)
			var failure *ctf.Error
			if !errors.As(err, &failure) || failure.Reason != ctf.ReasonDeploymentFailed {
				t.Fatalf("got %v", err)
			}
			if failure.Detail != test.want {
				t.Errorf("got the words\n%q, want\n%q", failure.Detail, test.want)
			}
			s.mustUp(t, program(id), l)
		})
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.Preview(t.Context(), program("", "files", "a,b")); err != nil {
		t.Error(err)
	}
	if calls := s.calls(); calls != "" {
		t.Errorf("it changed something: %s", calls)
	}
	for _, mode := range []string{"", "silent", "flag", "unknown-flags"} {
		if err := s.Preview(t.Context(), program("", "mode", mode, "files", "a")); err != nil {
			t.Errorf("mode %s: %v", mode, err)
		}
	}
	for mode, want := range map[string]string{
		"error":       "the author's mistake",
		"number":      "output connection_info: must be a string and is a number",
		"number-flag": "output flags: item 2 must be a string and is a number",
	} {
		err := s.Preview(t.Context(), program("", "mode", mode))
		var mismatch *ctf.Error
		if !errors.As(err, &mismatch) || mismatch.Reason != ctf.ReasonScenarioMismatch || mismatch.Detail != want {
			t.Errorf("mode %s: got %v", mode, err)
		}
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id, l := ctf.NewIdentity(), newLedger()
	step := func(want string, additional ...string) {
		t.Helper()
		s.mustUp(t, program(id, additional...), l)
		if got := s.files(id); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	step("a=1 b=1", "files", "a,b", "content", "1")
	step("a=1 b=1", "files", "a,b", "content", "1")
	step("a=2 b=2", "files", "a,b", "content", "2")
	step("a=2 b=2", "files", "a,b", "content", "2", "kind", "other", "chain", "y")
	step("b=2", "files", "b", "content", "2", "kind", "other")
	want := "create a, create b, update a, update b, delete a, create a, delete b, create b, delete a"
	if diff := cmp.Diff(sorted(want), sorted(s.calls())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s.mustDown(t, id, l)
	s.mustDown(t, id, l)
	if got := s.files(id); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestUpRenamedProject(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id, l := ctf.NewIdentity(), newLedger()
	p := program(id, "files", "a", "content", "1")
	s.mustUp(t, p, l)
	p.Scenario = shared.two
	s.mustUp(t, p, l)
	if got, want := s.calls(), "create a"; got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
	s.mustDown(t, id, l)
	if got, want := s.calls(), "create a, delete a"; got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestDownWithoutCheckpointSweeps(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id := ctf.NewIdentity()
	s.mustUp(t, program(id, "files", "a"), newLedger())
	s.mustDown(t, id, newLedger())
	if got := s.files(id); got != "" {
		t.Errorf("left: %s", got)
	}
	defer s.turn("fail-sweep")()
	err := s.Down(t.Context(), key(id), ctf.Checkpoint{}, newLedger())
	if ctf.ReasonOf(err) != ctf.ReasonDeploymentFailed || !strings.Contains(err.Error(), "the broom is broken") {
		t.Errorf("got %v", err)
	}
}

func TestResourceFails(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"create", "update", "delete"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id, l := ctf.NewIdentity(), newLedger()
			if verb != "create" {
				s.mustUp(t, program(id, "files", "a,b", "content", "1"), l)
			}
			reset := s.turn("fail-" + verb + "-b")
			p := program(id, "files", "a,b", "content", "2")
			if verb == "delete" {
				p = program(id, "files", "a", "content", "2")
			}
			_, err := s.Up(t.Context(), p, l.Checkpoint(), l)
			var failure *ctf.Error
			if !errors.As(err, &failure) || failure.Detail != "disk:index:File b: the disk is on fire" {
				t.Fatalf("got %v", err)
			}
			reset()
			s.mustUp(t, p, l)
			if got := s.files(id); !strings.Contains(got, "a=2") || strings.Contains(got, "b=") == (verb == "delete") {
				t.Errorf("got %q", got)
			}
			s.mustDown(t, id, l)
		})
	}
}

func sorted(calls string) []string {
	list := strings.Split(calls, ", ")
	for i := range list {
		for j := i; j > 0 && list[j] < list[j-1]; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return list
}

func TestResources(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	defer s.turn("fail-create-broken")()
	made := func(files string) ctf.Checkpoint {
		l := newLedger()
		result, err := s.Up(t.Context(), program(ctf.NewIdentity(), "files", files), ctf.Checkpoint{}, l)
		if err == nil {
			_ = l.Rebase(t.Context(), result.Base)
		}
		return l.Checkpoint()
	}
	plain := newLedger()
	s.mustUp(t, program(ctf.NewIdentity()), plain)
	for name, test := range map[string]struct {
		checkpoint ctf.Checkpoint
		want       int
	}{
		"nothing":                   {ctf.Checkpoint{}, 0},
		"components":                {plain.Checkpoint(), 0},
		"resources":                 {made("a,b"), 2},
		"resources of a failed try": {made("a,broken"), 1},
	} {
		got, err := s.Resources(t.Context(), test.checkpoint)
		if err != nil || len(got) != test.want {
			t.Errorf("%s: got %v, want %d: %v", name, got, test.want, err)
		}
		for _, r := range got {
			if r.Type != "disk:index:File" || r.ID == "" {
				t.Errorf("%s: got %+v", name, r)
			}
		}
	}
	if got, err := s.Resources(t.Context(), ctf.Checkpoint{Base: []byte("{")}); err == nil {
		t.Errorf("a damaged checkpoint has %v", got)
	}
}
