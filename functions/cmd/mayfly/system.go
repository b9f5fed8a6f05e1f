package main

import (
	"context"
	"fmt"
	"log/slog"
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
	// operationLimit bounds the work on one instance. It is below the 600 s that
	// callers and Knative wait at most, so that the answer still reaches them.
	operationLimit = 540 * time.Second
	// eventsLimit is how long a stopping system tries to publish its events;
	// what is left is published by the next one.
	eventsLimit = 5 * time.Second
)

// A system is all that the functions stand on, in one process.
type system struct {
	store     *redis.Store
	scenarios *scenario.Library
	engine    *engine.Engine
	publisher *events.Publisher
	lifecycle *lifecycle.Lifecycle
	orphans   reconcile.Orphans
	log       *slog.Logger
}

// A plan is what a system is opened with.
type plan struct {
	redis     redis.Options
	scenarios scenario.Options
	platform  platform
	orphans   reconcile.Orphans // without the platforms
	workers   int
	runFor    time.Duration // for each program of a scenario
	memory    uint64        // for each program of a scenario, in bytes
	sinks     []events.Sink
	log       *slog.Logger
}

func openSystem(ctx context.Context, p plan) (s *system, err error) {
	s = &system{log: p.log, orphans: p.orphans}
	defer func() {
		if err != nil {
			s.close(ctx)
		}
	}()
	if s.store, err = redis.Open(ctx, p.redis); err != nil {
		return s, fmt.Errorf("redis: %s", err) //nolint:errorlint // It is for an operator, who is to read the cause as well.
	}
	if s.scenarios, err = scenario.New(p.scenarios); err != nil {
		return s, err
	}
	if p.platform.Installation, err = s.store.Installation(ctx); err != nil {
		return s, err
	}
	if s.orphans.Platforms, err = p.platform.inventory(); err != nil {
		return s, err
	}
	worker, err := p.platform.workerCommand()
	if err != nil {
		return s, err
	}
	s.engine, err = engine.New(ctx, engine.Options{
		Source:          s.scenarios,
		WorkerCommand:   worker,
		WorkerEnv:       workerEnvironment(),
		Workers:         p.workers,
		ScenarioTimeout: p.runFor,
		ScenarioMemory:  p.memory,
		TargetNamespace: p.platform.Namespace,
	})
	if err != nil {
		return s, err
	}
	if s.publisher, err = events.NewPublisher(s.store, p.sinks, p.log); err != nil {
		return s, err
	}
	s.lifecycle = lifecycle.New(s.store, s.engine, s.publisher, operationLimit)
	return s, nil
}

// close lets work in progress end, publishes its events and releases
// everything, in the reverse order of opening. It may follow a failed open.
func (s *system) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	step := func(what string, limit time.Duration, do func(context.Context) error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := do(ctx); err != nil {
			s.log.ErrorContext(ctx, "a part does not stop in order", "part", what, "error", err)
		}
	}
	if s.lifecycle != nil {
		step("deployments", operationLimit, s.lifecycle.Drain)
	}
	if s.publisher != nil {
		step("events", eventsLimit, s.publisher.Close)
	}
	if s.engine != nil {
		step("the engine", eventsLimit, func(context.Context) error { return s.engine.Close() })
	}
	if s.scenarios != nil {
		s.scenarios.Close()
	}
	if s.store != nil {
		step("the store", eventsLimit, func(context.Context) error { return s.store.Close() })
	}
}

// verbs is the API: each verb and what it stands on.
func (s *system) verbs() serve.Verbs {
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
	expirePath    = "/expire"
	fillPoolPath  = "/fill-pool"
	reconcilePath = "/reconcile"
)

// events are the functions that events wake.
func (s *system) events() map[string]serve.EventHandler {
	pools := fillpool.New(s.store, s.lifecycle, s.log)
	return map[string]serve.EventHandler{
		expirePath:    onTick(expire.New(s.store, s.lifecycle, s.log).Handle),
		fillPoolPath:  onEvent(pools.Handle),
		reconcilePath: onTick(reconcile.New(s.store, s.lifecycle, pools, s.publisher, s.orphans, s.log).Handle),
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

func onEvent(handle func(context.Context, ctf.Event) error) serve.EventHandler {
	return func(ctx context.Context, ce cloudevents.Event) error {
		event, err := events.Decode(ce)
		if err != nil {
			return err
		}
		return handle(ctx, event)
	}
}
