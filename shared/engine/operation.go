package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

var (
	errRefused = errors.New("the journal refused an entry")
	errOverdue = errors.New("the deadline passed")
)

// An operation is one job in the worker that does it.
type operation struct {
	session *session
	job     job
	words   *words
	watch   *stopwatch
	// root ends with the worker.
	root context.Context
	// ctx ends when the operation is to stop; the cause says why. It is kept
	// because the engine hands its providers a context that never ends.
	ctx      context.Context
	stop     context.CancelCauseFunc
	deadline atomic.Int64 // on the machine's monotonic clock, 0 is none
	// planned is what the program exports, as far as a preview knows it.
	planned resource.PropertyMap
	// unloadable: the program could not begin.
	unloadable bool

	mu       sync.Mutex
	timer    *time.Timer
	finished bool
}

func newOperation(ctx context.Context, s *session, j job) *operation {
	o := &operation{session: s, job: j, root: ctx, words: &words{}, watch: newStopwatch()}
	o.ctx, o.stop = context.WithCancelCause(ctx)
	if j.Deadline != 0 {
		o.setDeadline(j.Deadline)
	}
	return o
}

// setDeadline moves the moment after which nothing may be changed. At that
// moment the operation is stopped; a while later the process ends, whatever
// still hangs.
func (o *operation) setDeadline(at int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finished || o.ctx.Err() != nil {
		return
	}
	o.deadline.Store(at)
	if o.timer != nil {
		o.timer.Stop()
	}
	o.timer = time.AfterFunc(time.Duration(at-monotonic()), func() {
		if monotonic() < o.deadline.Load() {
			return // it moved just now
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.finished {
			return
		}
		o.stop(errOverdue)
		o.timer = time.AfterFunc(grace+time.Second, func() { os.Exit(1) })
	})
}

// overdue tells whether the deadline has passed.
func (o *operation) overdue() bool {
	at := o.deadline.Load()
	return at != 0 && monotonic() >= at
}

// serve runs the operation and reports how it ended.
func (o *operation) serve() {
	result, err := o.run()
	if err != nil {
		result = outcome{Fault: err.Error()}
		if errors.Is(err, errFailed) {
			result = outcome{Failure: o.words.String(), Unloadable: o.unloadable}
		}
		if cause := context.Cause(o.ctx); cause != nil {
			result = outcome{Fault: cause.Error(), Overdue: errors.Is(cause, errOverdue)}
		}
	}
	o.finish()
	o.session.mu.Lock()
	o.session.current = nil
	o.session.mu.Unlock()
	if err := o.session.report(report{Done: &result}); err != nil {
		fmt.Fprintln(os.Stderr, "worker: report the end:", err)
	}
}

// finish ends the timer and whoever still waits for the operation to stop.
func (o *operation) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
	if o.timer != nil {
		o.timer.Stop()
	}
	o.stop(nil)
}

// run returns errFailed when the words tell what failed.
func (o *operation) run() (outcome, error) {
	if o.job.Operation == preview {
		if _, err := o.deploy(&apitype.DeploymentV3{}); err != nil {
			return outcome{}, err
		}
		_, err := o.exported(o.planned)
		return outcome{}, err
	}
	state, err := o.restore()
	if err != nil {
		return outcome{}, err
	}
	if o.job.Operation == down {
		if len(state.Resources) > 0 {
			err = o.destroy(state)
		}
		if err == nil {
			err = o.sweep()
		}
		return outcome{}, err
	}
	final, err := o.deploy(state)
	if err != nil {
		return outcome{}, err
	}
	return o.results(final)
}

// sweep has the providers destroy what no checkpoint names.
func (o *operation) sweep() error {
	names := make([]string, 0, len(o.session.providers))
	for name := range o.session.providers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p, err := o.session.providers[name]()
		if errors.Is(err, ErrNotOffered) {
			continue
		}
		if err != nil {
			return o.words.fail("provider "+name, err)
		}
		if sweeper, ok := p.(Sweeper); ok {
			if o.overdue() {
				return errOverdue
			}
			err = sweeper.Sweep(o.ctx, o.job.Identity)
		}
		closeProvider(p)
		if err != nil {
			return o.words.fail("what is left of the instance", err)
		}
	}
	return nil
}
