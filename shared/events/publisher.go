package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// sendTimeout is above the minute that a handler may take.
	sendTimeout = 75 * time.Second
	// firstRetry and lastRetry bound the wait after a sink refused an event.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	// atOnce is how many events one sink is sent in parallel, each of another
	// challenge.
	atOnce = 16
)

// A Sink is where events are sent to.
type Sink struct {
	URL string
	// Types are those that the sink wants; none means all.
	Types []ctf.EventType
}

// A Publisher sends what the outboxes hold to the sinks, in each outbox's
// order. An event leaves its outbox once every sink took it. A sink may see it
// twice; one that takes long, or nothing, holds up no other.
type Publisher struct {
	outbox ctf.Outbox
	sinks  []Sink
	slots  []chan struct{} // by sink
	client cloudevents.Client
	log    *slog.Logger

	mu      sync.Mutex
	active  map[ctf.ChallengeKey]*delivery
	running sync.WaitGroup
	closing chan struct{}
	ctx     context.Context //nolint:containedctx // it is the life of the goroutines, which no call owns
	cancel  context.CancelFunc
}

// NewPublisher returns a Publisher. With no sinks it only empties the
// outboxes.
func NewPublisher(outbox ctf.Outbox, sinks []Sink, log *slog.Logger) (*Publisher, error) {
	client, err := cloudevents.NewClientHTTP()
	if err != nil {
		return nil, fmt.Errorf("make a CloudEvents client: %w", err)
	}
	if len(sinks) == 0 {
		sinks = []Sink{{}} // wants nothing
	}
	slots := make([]chan struct{}, len(sinks))
	for n := range slots {
		slots[n] = make(chan struct{}, atOnce)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Publisher{
		outbox: outbox, sinks: sinks, slots: slots, client: client, log: log,
		active:  map[ctf.ChallengeKey]*delivery{},
		closing: make(chan struct{}),
		ctx:     ctx, cancel: cancel,
	}, nil
}

// Announce has the outbox of a challenge published soon. It never blocks, and
// must not be called after Close.
func (p *Publisher) Announce(key ctf.ChallengeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.active[key]
	if d == nil {
		d = newDelivery(key, len(p.sinks))
		p.active[key] = d
	}
	for n, at := range d.progress {
		if at.running {
			at.again = true
			continue
		}
		at.running = true
		p.running.Go(func() { p.run(d, n) })
	}
}

// Close publishes what was announced, as long as ctx allows, and stops. What
// is left stays in the outboxes.
func (p *Publisher) Close(ctx context.Context) error {
	close(p.closing)
	idle := make(chan struct{})
	go func() {
		p.running.Wait()
		close(idle)
	}()
	defer p.cancel()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		p.cancel()
		<-idle
		return fmt.Errorf("publish events: %w", context.Cause(ctx))
	}
}

// run gives a sink what an outbox holds, until there is no more, or until the
// Publisher is closing and the sink refuses.
func (p *Publisher) run(d *delivery, sink int) {
	retry := firstRetry
	for {
		err := p.publish(p.ctx, d, sink)
		if err == nil {
			if !p.again(d, sink) {
				return
			}
			retry = firstRetry
			continue
		}
		p.log.Warn("publishing events is retried", "challenge", d.key.ID, "after", retry, "error", err)
		select {
		case <-time.After(retry):
		case <-p.closing:
			return
		}
		retry = min(2*retry, lastRetry)
	}
}

// again tells whether the outbox was announced while the sink was given what
// it held before. If not, the delivery to this sink is over.
func (p *Publisher) again(d *delivery, sink int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := d.progress[sink]
	if at.again {
		at.again = false
		return true
	}
	at.running = false
	if d.idle() {
		delete(p.active, d.key)
	}
	return false
}

// publish gives a sink all that it has not taken yet.
func (p *Publisher) publish(ctx context.Context, d *delivery, sink int) error {
	for {
		if err := d.clear(ctx, p.outbox); err != nil {
			return err
		}
		events, err := d.next(ctx, p.outbox, sink)
		if err != nil || len(events) == 0 {
			return err
		}
		for _, e := range events {
			if err := p.send(ctx, sink, e); err != nil {
				return errors.Join(err, d.clear(ctx, p.outbox))
			}
			d.took(sink, e)
		}
	}
}

// send gives an event to a sink if that wants it. A sink that calls the event
// itself bad (400) would do so for ever, so the event counts as taken.
func (p *Publisher) send(ctx context.Context, sink int, e ctf.Event) error {
	to := p.sinks[sink]
	if !to.wants(e) {
		return nil
	}
	ce, err := Encode(e)
	if err != nil {
		return err
	}
	select {
	case p.slots[sink] <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err = Send(ctx, p.client, to.URL, ce)
	<-p.slots[sink]
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Status == http.StatusBadRequest {
		p.log.ErrorContext(ctx, "a sink called an event bad", "type", e.Type, "id", e.ID, "sink", to.URL, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", e.Type, to.URL, err)
	}
	return nil
}

func (s Sink) wants(e ctf.Event) bool {
	return s.URL != "" && (len(s.Types) == 0 || slices.Contains(s.Types, e.Type))
}

// A RefusedError is an answer other than 2xx to an event.
type RefusedError struct {
	Status int
	result error
}

// Error returns what the receiver answered.
func (e *RefusedError) Error() string { return fmt.Sprintf("answered %d: %v", e.Status, e.result) }

// Send delivers one event to a URL and waits for the answer. An answer other
// than 2xx is a [*RefusedError].
func Send(ctx context.Context, client cloudevents.Client, url string, ce cloudevents.Event) error {
	ctx, cancel := context.WithTimeout(cloudevents.ContextWithTarget(ctx, url), sendTimeout)
	defer cancel()
	result := client.Send(ctx, ce)
	if cloudevents.IsACK(result) {
		return nil
	}
	var answered *cehttp.Result
	if cloudevents.ResultAs(result, &answered) {
		return &RefusedError{Status: answered.StatusCode, result: result}
	}
	return result
}
