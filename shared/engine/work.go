package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"golang.org/x/sys/unix"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The descriptors that a worker inherits.
const (
	ordersFD  = 3
	reportsFD = 4
)

// Providers make a new provider for each use, by the name of its package. One
// that fails with [ErrNotOffered] is as good as missing, and says why.
//
// A provider computes the id of a resource from its URN and inputs alone. Its
// Read, when asked without an id, computes it too, and answers with an empty id
// if the resource is not there.
type Providers map[string]func() (plugin.Provider, error)

// A Sweeper is a provider that finds what an instance left, without knowing
// any of its resources, and destroys it. It may be called when nothing is left.
type Sweeper interface {
	Sweep(ctx context.Context, identity ctf.Identity) error
}

// A Binder is a provider that is told, before anything else, whose instance it
// works on.
type Binder interface {
	Bind(key ctf.InstanceKey)
}

// Work is what a worker process does: it carries out the operations that the
// engine in its parent process orders, until that ends or lets it go. It
// returns the exit code. It must be called once, in a process that was started
// by an [Engine]: it talks over inherited descriptors and changes attributes of
// the process. Without open there are only scenarios that are programs.
func Work(ctx context.Context, providers Providers, open Open) int {
	if err := work(ctx, providers, open); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func work(ctx context.Context, providers Providers, open Open) error {
	// A scenario program must neither inherit the pipes, nor what we inherited
	// without knowing, nor read our memory.
	if err := unix.CloseRange(ordersFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors to ourselves: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	s := &session{
		providers: providers, open: open, acks: make(chan ack, 1),
		orders: os.NewFile(ordersFD, "orders"), reports: os.NewFile(reportsFD, "reports"),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.running.Wait()
	defer cancel()
	if err := s.report(report{Ready: true}); err != nil {
		return fmt.Errorf("talk to the engine: %w", err)
	}
	for {
		var next order
		if err := readFrame(s.orders, &next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.obey(ctx, next); err != nil {
			return err
		}
	}
}

// A session is the worker's end of the pipes.
type session struct {
	providers Providers
	open      Open
	orders    *os.File
	reports   *os.File
	writing   sync.Mutex
	acks      chan ack
	running   sync.WaitGroup

	mu      sync.Mutex
	current *operation
}

func (s *session) report(r report) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return writeFrame(s.reports, r)
}

func (s *session) obey(ctx context.Context, next order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case next.Run != nil:
		if s.current != nil {
			return errors.New("the engine ordered a second operation at once")
		}
		s.current = newOperation(ctx, s, *next.Run)
		s.running.Go(s.current.serve)
	case next.Ack != nil:
		s.acks <- *next.Ack
	case s.current == nil: // too late
	case next.Deadline != 0:
		s.current.setDeadline(next.Deadline)
	case next.Cancel:
		s.current.stop(context.Canceled)
	}
	return nil
}

// store sends an entry or a base and waits until it is taken down, also when
// the operation is to stop: what was done must not be forgotten. ctx is the
// session's.
func (s *session) store(ctx context.Context, r report) error {
	if err := s.report(r); err != nil {
		return fmt.Errorf("talk to the engine: %w", err)
	}
	select {
	case a := <-s.acks:
		if a.Refused {
			return errRefused
		}
		return nil
	case <-ctx.Done(): // the process is about to end
		return context.Cause(ctx)
	}
}
