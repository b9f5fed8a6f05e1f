package ctf

import (
	"context"
	"maps"
	"time"
)

// A Leaser gives out the right to work on one instance.
type Leaser interface {
	// Lease waits until nobody else holds the instance's lease, takes it and
	// raises the fence of the record. It returns an InstanceNotFound error as
	// soon as there is no such record, and ctx's error when that ends first. Each
	// time that it finds somebody else holding the lease it calls held.
	Lease(ctx context.Context, key InstanceKey, held ...func()) (Lease, error)
}

// A Lease is the right to work on one instance. It is refreshed until
// Release. Every method that writes carries the fence number of this lease,
// and is refused with [ErrLeaseLost] once somebody else raised it.
type Lease interface {
	// Load reads what the record asks for now; InstanceNotFound when it is gone.
	Load(ctx context.Context) (Work, error)
	// Hold returns a context that ends when the lease is lost (cause
	// [ErrLeaseLost]) or when the record no longer asks for the state given
	// (cause [ErrSuperseded]).
	Hold(ctx context.Context, state State) (context.Context, context.CancelFunc)
	// Journal returns the journal of an operation that works for the state
	// given. Its appends are refused like those of the lease, and with
	// [ErrSuperseded] when the record no longer asks for that state.
	Journal(state State) Journal
	// Deployed records the result of an Up. A pending or updating instance
	// becomes ready; if its challenge has moved on meanwhile it is updating
	// instead, in place. The pending half of a blue-green update takes over the
	// source of the one it replaces, which becomes deleting, all in one step.
	// generation and scenario are those of the challenge in the Work that was
	// deployed.
	Deployed(ctx context.Context, w Work, r Result) (Instance, error)
	// Abandon records that the work failed and how the instance is left: Ready
	// (an update failed, the old generation runs on; of a stripped one nothing does,
	// and it is left Failed), Deleting (a deployment
	// failed) or Failed (a recreate failed). It is refused with [ErrSuperseded]
	// when the record asks for something else than it did at the last Load.
	Abandon(ctx context.Context, state State, failure string) error
	// Strip records that what an updating instance is made of is about to be
	// destroyed: from then on, until it is deployed, no failure leaves it Ready. It
	// may be called again.
	Strip(ctx context.Context) error
	// Excuse has this attempt not count, when it failed through no fault of the
	// scenario and the instance is left as it is. It may be called again.
	Excuse(ctx context.Context, w Work) error
	// Lose records that what a ready instance was made of is gone, why, and how it
	// is left: Updating, to be made anew, or Deleting, or Ready as it was. A pooled
	// one is deleted instead of made anew. It returns [ErrSuperseded] when the
	// record has changed since the Work was loaded.
	Lose(ctx context.Context, w Work, state State, failure string) error
	// Replacement reserves the pending half of a blue-green update of this
	// updating instance, or returns the one that an interrupted update left.
	Replacement(ctx context.Context) (Identity, error)
	// Forget removes the record of a deleting instance, once nothing of it is
	// left.
	Forget(ctx context.Context) error
	// Release gives the lease up. It works on a context of its own and may be
	// called twice.
	Release()
}

// Work is an instance with everything needed to bring it to where its record
// asks.
type Work struct {
	Challenge  Challenge
	Instance   Instance
	Checkpoint Checkpoint
	// Attempt counts the leases that were taken since the record asks for its
	// state, this one included, but for those that were excused.
	Attempt int64
	// Bare: it was stripped, and not deployed since.
	Bare bool
}

// Program is what to run: the challenge's scenario with its and the instance's
// additional merged; on equal keys the instance's win.
func (w Work) Program() Program {
	merged := make(map[string]string, len(w.Challenge.Additional)+len(w.Instance.Additional))
	maps.Copy(merged, w.Challenge.Additional)
	maps.Copy(merged, w.Instance.Additional)
	return Program{Scenario: w.Challenge.Scenario, Instance: w.Instance.Key, Additional: merged}
}

// A Checkpoint is what the engine knows of an instance's resources. Only the
// engine reads it.
type Checkpoint struct {
	// Base is the state after the last finished operation; nil if there was none.
	Base []byte
	// Journal is what an operation that did not finish wrote since, in order.
	Journal [][]byte
}

// IsEmpty tells whether nothing can be deployed by all that is known.
func (c Checkpoint) IsEmpty() bool { return len(c.Base) == 0 && len(c.Journal) == 0 }

// A Journal takes down what an operation is about to do, before it does it.
type Journal interface {
	// Append stores an entry. When it returns an error, the step that the entry
	// announces must not be taken. Entries are kept in the order of the calls.
	Append(ctx context.Context, entry []byte) error
	// Rebase replaces the base of the checkpoint and drops the journal.
	Rebase(ctx context.Context, base []byte) error
	// Deadline is when the lease ends unless it is refreshed; it moves on while
	// it is. After it no call that changes anything may be made. It carries a
	// monotonic clock reading.
	Deadline() time.Time
}

// An Engine runs scenarios.
type Engine interface {
	// Preview runs the program without making anything. A program that cannot
	// run is a Scenario* error.
	Preview(ctx context.Context, p Program) error
	// Up brings the resources of the instance to what the program describes,
	// starting from the checkpoint. A failure of the program or of a resource is
	// a DeploymentFailed error; what was made until then is in the journal.
	// When ctx ends it stops as soon as it can and returns ctx's cause.
	Up(ctx context.Context, p Program, c Checkpoint, j Journal) (Result, error)
	// Down destroys everything in the checkpoint and whatever else carries the
	// instance's label. It may be called again after a failure or a success, and
	// needs no scenario.
	Down(ctx context.Context, key InstanceKey, c Checkpoint, j Journal) error
	// Resources are what providers have made by the checkpoint. A scenario may do
	// without any.
	Resources(ctx context.Context, c Checkpoint) ([]Resource, error)
}

// A Resource is one thing that a provider has made.
type Resource struct {
	// Type begins with the name of the provider and a colon, and ID is by what the
	// provider knows the thing.
	Type, ID string
}

// A Program is a scenario with its inputs.
type Program struct {
	Scenario   Scenario
	Instance   InstanceKey
	Additional map[string]string
}

// A Result is what an Up gives.
type Result struct {
	ConnectionInfo string
	Flags          []string
	// Base is the new checkpoint.
	Base []byte
}

// A Resolver finds what a scenario reference means now.
type Resolver interface {
	// Resolve asks the registry each time. Errors are OCI* errors.
	Resolve(ctx context.Context, reference string) (Scenario, error)
}
