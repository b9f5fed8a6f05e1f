// Package system is what the verbs that run the engine stand on, opened and
// closed in order. It knows every package that it wires together, and holds no
// rule of the domain.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	createchallenge "github.com/mayfly-ctf/mayfly/functions/create-challenge"
	createinstance "github.com/mayfly-ctf/mayfly/functions/create-instance"
	deletechallenge "github.com/mayfly-ctf/mayfly/functions/delete-challenge"
	deleteinstance "github.com/mayfly-ctf/mayfly/functions/delete-instance"
	"github.com/mayfly-ctf/mayfly/functions/expire"
	fillpool "github.com/mayfly-ctf/mayfly/functions/fill-pool"
	querychallenge "github.com/mayfly-ctf/mayfly/functions/query-challenge"
	queryinstance "github.com/mayfly-ctf/mayfly/functions/query-instance"
	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	renewinstance "github.com/mayfly-ctf/mayfly/functions/renew-instance"
	retrievechallenge "github.com/mayfly-ctf/mayfly/functions/retrieve-challenge"
	retrieveinstance "github.com/mayfly-ctf/mayfly/functions/retrieve-instance"
	updatechallenge "github.com/mayfly-ctf/mayfly/functions/update-challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

const (
	// OperationLimit bounds a call, and the work on one instance, which may go on
	// after its call. It is below the 600 s that callers and Knative wait at most,
	// so that the answer still reaches them.
	OperationLimit = 540 * time.Second
	// closeLimit is how long a part gets to close once the work has ended. Events
	// that are not published by then are published by the next system.
	closeLimit = 5 * time.Second
	// storePause is between two tries to reach Redis.
	storePause = 200 * time.Millisecond
)

// A System is all that the functions stand on, in one process.
type System struct {
	store     *redis.Store
	scenarios *scenario.Library
	engine    *engine.Engine
	publisher *events.Publisher
	lifecycle *lifecycle.Lifecycle
	inventory reconcile.Inventory
	log       *slog.Logger
}

// A Plan is what a system is opened with.
type Plan struct {
	Settings
	Redis redis.Options
	// Patience is how long to wait for a Redis that does not answer.
	Patience time.Duration
	// PlainHTTP are registries that speak plain HTTP.
	PlainHTTP []string
	Sinks     []events.Sink
	Log       *slog.Logger
}

// Open opens everything. The system must be closed.
func Open(ctx context.Context, p Plan) (s *System, err error) {
	s = &System{log: p.Log, inventory: p.inventory}
	defer func() {
		if err != nil {
			s.Close(ctx) // there is no work yet
		}
	}()
	bounds, err := p.bounds()
	if err != nil {
		return s, err
	}
	if s.store, err = openStore(ctx, p); err != nil {
		return s, fmt.Errorf("redis: %s", err) //nolint:errorlint // It is for an operator, who is to read the cause as well.
	}
	if s.scenarios, err = scenario.New(p.library(p.PlainHTTP)); err != nil {
		return s, err
	}
	if p.Platform.Installation, err = s.store.Installation(ctx); err != nil {
		return s, err
	}
	if s.inventory.Platforms, err = p.Platform.Inventory(); err != nil {
		return s, err
	}
	worker, err := p.Platform.WorkerCommand()
	if err != nil {
		return s, err
	}
	s.engine, err = engine.New(ctx, engine.Options{
		Source:          s.scenarios,
		WorkerCommand:   worker,
		WorkerEnv:       WorkerEnvironment(),
		Workers:         bounds.Deployments + bounds.Destructions,
		ScenarioTimeout: p.programs.timeout,
		ScenarioMemory:  uint64(p.programs.memory) << 20,
		Scratch:         p.Scratch,
		TargetNamespace: p.Platform.Namespace,
	})
	if err != nil {
		return s, err
	}
	if s.publisher, err = events.NewPublisher(s.store, p.Sinks, p.Log); err != nil {
		return s, err
	}
	s.lifecycle = lifecycle.New(s.store, s.engine, s.publisher, bounds, OperationLimit)
	return s, nil
}

// openStore tries again for as long as the plan says.
func openStore(ctx context.Context, p Plan) (*redis.Store, error) {
	late := time.After(p.Patience)
	again := time.NewTicker(storePause)
	defer again.Stop()
	for {
		store, err := redis.Open(ctx, p.Redis)
		if away := (*ctf.Error)(nil); !errors.As(err, &away) || away.Kind != ctf.Unavailable {
			return store, err
		}
		select {
		case <-again.C:
		case <-late:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Close lets work in progress end until ctx does, publishes its events and
// releases everything, in the reverse order of opening. After ctx work that is
// still in progress is handed on, and each of four parts closes; all five take
// closeLimit at most. It may follow a failed open.
func (s *System) Close(ctx context.Context) {
	if s.lifecycle != nil {
		s.note(ctx, "deployments", s.lifecycle.Drain(ctx))
	}
	ctx = context.WithoutCancel(ctx)
	if s.publisher != nil {
		s.note(ctx, "events", within(ctx, s.publisher.Close))
	}
	if s.engine != nil {
		s.note(ctx, "the engine", within(ctx, func(context.Context) error { return s.engine.Close() }))
	}
	if s.scenarios != nil {
		s.note(ctx, "scenarios", within(ctx, func(context.Context) error { s.scenarios.Close(); return nil }))
	}
	if s.store != nil {
		s.note(ctx, "the store", within(ctx, func(context.Context) error { return s.store.Close() }))
	}
}

func (s *System) note(ctx context.Context, part string, err error) {
	if err != nil {
		s.log.ErrorContext(ctx, "a part does not stop in order", "part", part, "error", err)
	}
}

// within waits a short while for something to close, whether it heeds its
// context or not.
func within(ctx context.Context, closing func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- closing(ctx) }() // until the process ends, if need be
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ping returns a StoreUnavailable error unless Redis answers.
func (s *System) Ping(ctx context.Context) error { return s.store.Ping(ctx) }

// Verbs is the API: each verb and what it stands on.
func (s *System) Verbs() serve.Verbs {
	return serve.Verbs{
		CreateChallenge:   createchallenge.New(s.store, s.scenarios, s.lifecycle, s.publisher).Handle,
		RetrieveChallenge: retrievechallenge.New(s.store).Handle,
		QueryChallenge:    querychallenge.New(s.store).Handle,
		UpdateChallenge:   updatechallenge.New(s.store, s.scenarios, s.lifecycle, s.publisher).Handle,
		DeleteChallenge:   deletechallenge.New(s.store, s.lifecycle, s.publisher).Handle,
		CreateInstance:    createinstance.New(s.store, s.lifecycle, s.publisher).Handle,
		RetrieveInstance:  retrieveinstance.New(s.store).Handle,
		QueryInstance:     queryinstance.New(s.store).Handle,
		RenewInstance:     renewinstance.New(s.store, s.publisher).Handle,
		DeleteInstance:    deleteinstance.New(s.store, s.lifecycle, s.publisher).Handle,
	}
}

// The paths of the event functions.
const (
	ExpirePath    = "/expire"
	FillPoolPath  = "/fill-pool"
	ReconcilePath = "/reconcile"
)

// Events are the functions that events wake.
func (s *System) Events() map[string]serve.EventHandler {
	pools := fillpool.New(s.store, s.lifecycle, s.log)
	return map[string]serve.EventHandler{
		ExpirePath:    onTick(expire.New(s.store, s.lifecycle, s.log).Handle),
		FillPoolPath:  onEvent(pools.Handle),
		ReconcilePath: onAny(reconcile.New(s.store, s.lifecycle, pools, s.publisher, s.inventory, s.log)),
	}
}

func onTick(handle func(context.Context) error) serve.EventHandler {
	return func(ctx context.Context, ce cloudevents.Event) error {
		if err := events.CheckTick(ce); err != nil {
			return err
		}
		return handle(ctx)
	}
}

// onAny is for reconcile, which goes on with the work on one challenge if an event
// says that it is left. Dead letters wake it too: whatever they are about, it looks
// at everything.
func onAny(r *reconcile.Function) serve.EventHandler {
	return func(ctx context.Context, ce cloudevents.Event) error {
		if event, err := events.Decode(ce); err == nil && slices.Contains(reconcile.Types(), event.Type) {
			return r.GoOn(ctx, event)
		}
		return r.Handle(ctx)
	}
}

func onEvent(handle func(context.Context, ctf.Event) error) serve.EventHandler {
	return func(ctx context.Context, ce cloudevents.Event) error {
		event, err := events.Decode(ce)
		if err != nil {
			return err
		}
		return handle(ctx, event)
	}
}
