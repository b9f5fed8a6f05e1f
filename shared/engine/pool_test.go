package engine_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
)

// It is not parallel: it counts what the whole process has.
func TestManyOperationsLeaveNothing(t *testing.T) {
	s := newSite(t, func(o *engine.Options) { o.OperationsPerWorker = 20 })
	first := workers(s.disk)[0]
	cycle := func() error {
		id, l := ctf.NewIdentity(), newLedger()
		if _, err := s.Up(t.Context(), program(id, "files", "a"), l.Checkpoint(), l); err != nil {
			return err
		}
		return s.Down(t.Context(), key(id), l.Checkpoint(), l)
	}
	many := func(n int) {
		var group errgroup.Group
		group.SetLimit(4)
		for range n {
			group.Go(cycle)
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	many(10)
	heap, goroutines, files := held()
	many(100)
	eventually(t, "no more is held than before", func() bool {
		h, g, f := held()
		return h < heap+4<<20 && g <= goroutines+4 && f <= files+4 // a worker more or less
	})
	if runs(first) {
		t.Error("the first worker was not replaced")
	}
	eventually(t, "at most two workers run, and nothing under them", func() bool {
		now := workers(s.disk)
		return len(now) >= 1 && len(now) <= 2 && len(children(now...)) == 0
	})
}

func TestRushLeavesFewWorkers(t *testing.T) {
	t.Parallel()
	keep := 2 * runtime.GOMAXPROCS(0)
	s := newSite(t, func(o *engine.Options) { o.Workers = 3 * keep })
	var group errgroup.Group
	for range 3 * keep {
		group.Go(func() error { return s.Preview(t.Context(), program("", "files", "a")) })
	}
	eventually(t, "the rush has more workers", func() bool { return len(workers(s.disk)) > keep })
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the others are let go", func() bool { return len(workers(s.disk)) <= keep })
}

func held() (heap uint64, goroutines, files int) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, _ := os.ReadDir("/proc/self/fd")
	return m.HeapAlloc, runtime.NumGoroutine(), len(entries)
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Preview(t.Context(), program("")); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
		t.Errorf("got %v", err)
	}
	if left := workers(s.disk); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is no program is refused at once, and a worker that does not start is told
// to whoever needs one.
func TestWorkersThatDoNotStart(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{nil, {"/does/not/exist"}} {
		if e, err := engine.New(t.Context(), engine.Options{Source: shared.library, WorkerCommand: command}); err == nil {
			t.Errorf("%v: no error", command)
			_ = e.Close()
		}
	}
	for _, command := range [][]string{{"/bin/false"}, {"/bin/echo", "hello"}} {
		e, err := engine.New(t.Context(), engine.Options{Source: shared.library, WorkerCommand: command})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := e.Preview(t.Context(), program("")); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
				t.Errorf("%v: got %v", command, err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
