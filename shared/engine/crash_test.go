package engine_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
)

// begin starts an Up that is held up in a call, and waits until it is.
func (s *site) begin(ctx context.Context, t *testing.T, p ctf.Program, l *ledger, verb, name string) <-chan error {
	t.Helper()
	result, before := make(chan error, 1), s.calls()
	go func() {
		_, err := s.Up(ctx, p, l.Checkpoint(), l)
		result <- err
	}()
	eventually(t, verb+" "+name+" has begun", func() bool {
		now := s.calls()
		return now != before && strings.HasSuffix(now, verb+" "+name)
	})
	return result
}

func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before []string // settings of a first Up, none if nil
		hold   string
		calls  string // after everything was destroyed
	}{
		"before_the_create": {nil, "slow-create-a", "create a, create a, delete a"},
		"after_the_create":  {nil, "hold-create-a", "create a, delete a"},
		"before_the_update": {[]string{"files", "a", "content", "1"}, "slow-update-a", "create a, update a, update a, delete a"},
		"after_the_update":  {[]string{"files", "a", "content", "1"}, "hold-update-a", "create a, update a, update a, delete a"},
		"before_the_delete": {[]string{"files", "a", "content", "2", "kind", "other"}, "slow-delete-a",
			"create a, delete a, delete a, create a, delete a"},
		"after_the_delete": {[]string{"files", "a", "content", "2", "kind", "other"}, "hold-delete-a",
			"create a, delete a, create a, delete a"},
		"before_the_replacement": {[]string{"files", "a", "content", "2", "kind", "other"}, "slow-create-a",
			"create a, delete a, create a, create a, delete a"},
		"after_the_replacement": {[]string{"files", "a", "content", "2", "kind", "other"}, "hold-create-a",
			"create a, delete a, create a, delete a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id, l := ctf.NewIdentity(), newLedger()
			if test.before != nil {
				s.mustUp(t, program(id, test.before...), l)
			}
			reset := s.turn(test.hold)
			p := program(id, "files", "a", "content", "2")
			verb := strings.Split(test.hold, "-")[1]
			result := s.begin(t.Context(), t, p, l, verb, "a")
			if strings.HasPrefix(test.hold, "hold") {
				eventually(t, "it is done", func() bool {
					return verb == "delete" && s.files(id) == "" || verb != "delete" && s.files(id) == "a=2"
				})
			}
			s.killWorkers(t)
			var death *ctf.Error
			if err := <-result; !errors.As(err, &death) || death.Kind != ctf.Unavailable {
				t.Fatalf("got %v", err)
			}
			reset()
			s.mustUp(t, p, l)
			if got := s.files(id); got != "a=2" {
				t.Errorf("got %q", got)
			}
			s.mustDown(t, id, l)
			if got := s.calls(); got != test.calls {
				t.Errorf("calls %q, want %q", got, test.calls)
			}
		})
	}
}

func TestDownAfterWorkerKilled(t *testing.T) {
	t.Parallel()
	for _, hold := range []string{"slow-create-b", "hold-create-b"} {
		t.Run(hold, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id, l := ctf.NewIdentity(), newLedger()
			reset := s.turn(hold)
			result := s.begin(t.Context(), t, program(id, "files", "a,b", "chain", "y"), l, "create", "b")
			if hold == "hold-create-b" {
				eventually(t, "b is there", func() bool { return strings.Contains(s.files(id), "b=") })
			}
			s.killWorkers(t)
			<-result
			reset()
			s.mustDown(t, id, l)
			want := map[string]string{
				"slow-create-b": "create a, create b, delete a",
				"hold-create-b": "create a, create b, delete b, delete a",
			}[hold]
			if got := s.calls(); got != want {
				t.Errorf("calls %q, want %q", got, want)
			}
		})
	}
}

func TestIdleWorkerKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := workers(s.disk)
	s.killWorkers(t)
	eventually(t, "the worker is gone", func() bool { return len(old) == 1 && !runs(old[0]) })
	id, l := ctf.NewIdentity(), newLedger()
	_, err := s.Up(t.Context(), program(id), l.Checkpoint(), l)
	if err != nil && ctf.ReasonOf(err) != ctf.ReasonUnavailable { // its end may be noticed only now
		t.Fatal(err)
	}
	s.mustUp(t, program(id), l)
}

func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"lease_lost": ctf.ErrLeaseLost, "superseded": ctf.ErrSuperseded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id, l := ctf.NewIdentity(), newLedger()
			p := program(id, "files", "a,b", "content", "1", "chain", "y")
			begun := func(entry []byte) bool { return bytes.Contains(entry, []byte(`"operation":{`)) }
			l.refuse = func(entry []byte) error {
				if begun(entry) {
					return cause
				}
				return nil
			}
			if _, err := s.Up(t.Context(), p, l.Checkpoint(), l); !errors.Is(err, cause) {
				t.Fatalf("got %v", err)
			}
			if got := s.calls(); got != "" {
				t.Errorf("calls %q", got)
			}
			l.refuse = func(entry []byte) error {
				if !begun(entry) && bytes.Contains(entry, []byte("::a\"")) {
					return cause
				}
				return nil
			}
			if _, err := s.Up(t.Context(), p, l.Checkpoint(), l); !errors.Is(err, cause) {
				t.Fatalf("got %v", err)
			}
			l.refuse = nil
			s.mustUp(t, p, l)
			s.mustDown(t, id, l)
			if got, want := s.calls(), "create a, create b, delete b, delete a"; got != want {
				t.Errorf("calls %q, want %q", got, want)
			}
		})
	}
}

func TestDeadlinePasses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id, l := ctf.NewIdentity(), newLedger()
	reset := s.turn("slow-create-a")
	p := program(id, "files", "a,b", "chain", "y")
	result := s.begin(t.Context(), t, p, l, "create", "a")
	l.Extend(time.Now().Add(time.Second))
	if err := <-result; !errors.Is(err, ctf.ErrLeaseLost) {
		t.Fatalf("got %v", err)
	}
	reset()
	if got := s.files(id); got != "" {
		t.Errorf("made after the deadline: %s", got)
	}
	if _, err := s.Up(t.Context(), p, l.Checkpoint(), l); !errors.Is(err, ctf.ErrLeaseLost) {
		t.Errorf("with a deadline that has passed: got %v", err)
	}
	l.Extend(time.Now().Add(time.Hour))
	s.mustUp(t, p, l)
	s.mustDown(t, id, l)
}

func TestDeadlineMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustUp(t, program(ctf.NewIdentity()), newLedger()) // so that a worker is ready, and the scenario there
	id, l := ctf.NewIdentity(), newLedger()
	reset := s.turn("slow-create-a")
	first := time.Now().Add(5 * time.Second)
	l.Extend(first)
	result := s.begin(t.Context(), t, program(id, "files", "a"), l, "create", "a")
	l.Extend(time.Now().Add(time.Hour))
	eventually(t, "the first deadline has passed", func() bool { return time.Since(first) > 100*time.Millisecond })
	reset()
	if err := <-result; err != nil {
		t.Errorf("got %v", err)
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cause    error
		survives bool
	}{
		"superseded": {ctf.ErrSuperseded, true},
		"lease_lost": {ctf.ErrLeaseLost, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			id, l := ctf.NewIdentity(), newLedger()
			defer s.turn("slow-create-a")()
			ctx, cancel := context.WithCancelCause(t.Context())
			before := workers(s.disk)
			result := s.begin(ctx, t, program(id, "files", "a"), l, "create", "a")
			cancel(test.cause)
			if err := <-result; !errors.Is(err, test.cause) {
				t.Fatalf("got %v", err)
			}
			s.mustUp(t, program(ctf.NewIdentity()), newLedger())
			if survived := slices.Equal(before, workers(s.disk)); survived != test.survives {
				t.Errorf("workers before %v, after %v", before, workers(s.disk))
			}
		})
	}
}

func TestQueueRespectsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) { o.Workers = 1 })
	l := newLedger()
	reset := s.turn("slow-create-a")
	result := s.begin(t.Context(), t, program(ctf.NewIdentity(), "files", "a"), l, "create", "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ctf.ErrSuperseded)
	if err := s.Preview(ctx, program("")); !errors.Is(err, ctf.ErrSuperseded) {
		t.Errorf("got %v", err)
	}
	reset()
	if err := <-result; err != nil {
		t.Error(err)
	}
}
