package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"

	"github.com/mayfly-ctf/mayfly/shared/events"
)

// A clock does what PingSources do on a cluster: it sends ticks to the event
// functions over HTTP.
type clock struct {
	client cloudevents.Client
	log    *slog.Logger
	ticks  sync.WaitGroup
}

// newTick returns the event that wakes expire and reconcile.
func newTick(source string) cloudevents.Event {
	tick := cloudevents.NewEvent()
	tick.SetID(uuid.NewString())
	tick.SetSource(source)
	tick.SetType(events.TickType)
	tick.SetTime(time.Now())
	return tick
}

// every sends a tick to the URL at once and then at each interval, until ctx
// ends; without an interval it never does. A tick that is still at work does not
// delay the next.
func (c *clock) every(ctx context.Context, interval time.Duration, url string) {
	if interval == 0 {
		return
	}
	c.ticks.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			c.ticks.Go(func() { c.send(ctx, url) })
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

func (c *clock) send(ctx context.Context, url string) {
	if err := events.Send(ctx, c.client, url, newTick("/mayfly/clock")); err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "a tick failed", "url", url, "error", err)
	}
}

// Wait returns when the ticks have ended, which they do when their ctx does.
func (c *clock) Wait() { c.ticks.Wait() }
