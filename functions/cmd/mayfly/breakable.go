//go:build faults

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/events"
)

// breakable makes a system that the tests of faults can break from outside. No
// program but theirs is built with it. From the environment come
//
//	FAULTS_LEASE  how long a lease lasts, so that a test sees many run out
//	FAULTS_DIE    "17 before": the process is killed right before, or right
//	              after, the 17th command to Redis from a SIGUSR2 on
//	FAULTS_SINK   where all events go, instead of to the functions
//	FAULTS_CLOCK  how far the clock of this process is off
func breakable(p system.Plan) (system.Plan, error) {
	d := &deadly{}
	if when := os.Getenv("FAULTS_DIE"); when != "" {
		if _, err := fmt.Sscan(when, &d.commands, &d.side); err != nil {
			return p, fmt.Errorf("FAULTS_DIE: %w", err)
		}
		d.await()
	}
	p.Redis.Hook = d
	if lease := os.Getenv("FAULTS_LEASE"); lease != "" {
		var err error
		if p.Redis.LeaseTTL, err = time.ParseDuration(lease); err != nil {
			return p, fmt.Errorf("FAULTS_LEASE: %w", err)
		}
	}
	if sink := os.Getenv("FAULTS_SINK"); sink != "" {
		p.Sinks = []events.Sink{{URL: sink}}
	}
	if off := os.Getenv("FAULTS_CLOCK"); off != "" {
		by, err := time.ParseDuration(off)
		if err != nil {
			return p, fmt.Errorf("FAULTS_CLOCK: %w", err)
		}
		return p, moveClock(by)
	}
	return p, nil
}

// deadly kills the process at a command to Redis, before it is sent or when its
// answer is there. Commands that are sent together are one.
type deadly struct {
	commands int64
	side     string
	left     atomic.Int64
}

// await counts from the signal on.
func (d *deadly) await() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR2)
	go func() {
		<-told
		d.left.Store(d.commands)
	}()
}

// at runs a command, or dies of it.
func (d *deadly) at(command func() error) error {
	last := d.left.Load() > 0 && d.left.Add(-1) == 0
	if last && d.side == "before" {
		die()
	}
	err := command()
	if last {
		die()
	}
	return err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it comes
}

// DialHook leaves connections alone.
func (d *deadly) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

// ProcessHook sees a command.
func (d *deadly) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error {
		return d.at(func() error { return next(ctx, command) })
	}
}

// ProcessPipelineHook sees commands that are sent together.
func (d *deadly) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		return d.at(func() error { return next(ctx, commands) })
	}
}
