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
	// atOnce is how many challenges' events are sent in parallel.
	atOnce = 16
)

// A Sink is where events are sent to.
type Sink struct {
	URL string
	// Types are those that the sink wants; none means all.
	Types []ctf.EventType
}

// A Publisher sends what the outboxes hold to the sinks, in each outbox's
// order. An event leaves its outbox once every sink took it; a sink may see it
// twice.
type Publisher struct {
	outbox ctf.Outbox
	sinks  []Sink
	client cloudevents.Client
	log    *slog.Logger

	mu sync.Mutex
	// active are the challenges whose outbox is being emptied; the value tells
	// whether it was announced again since.
	active  map[ctf.ChallengeKey]bool
	slots   chan struct{}
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
	ctx, cancel := context.WithCancel(context.Background())
	return &Publisher{
		outbox: outbox, sinks: sinks, client: client, log: log,
		active:  map[ctf.ChallengeKey]bool{},
		slots:   make(chan struct{}, atOnce),
		closing: make(chan struct{}),
		ctx:     ctx, cancel: cancel,
	}, nil
}

// Announce has the outbox of a challenge published soon. It never blocks, and
// must not be called after Close.
func (p *Publisher) Announce(key ctf.ChallengeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.active[key]; ok {
		p.active[key] = true
		return
	}
	p.active[key] = false
	p.running.Go(func() {
		for p.empty(key) {
			continue
		}
	})
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

// empty publishes an outbox until it is empty, or the Publisher is closing and
// a sink refuses. It tells whether there is more to do.
func (p *Publisher) empty(key ctf.ChallengeKey) (again bool) {
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		p.slots <- struct{}{}
		err := p.publish(p.ctx, key)
		<-p.slots
		if err == nil {
			break
		}
		p.log.Warn("publishing events is retried", "challenge", key.ID, "after", retry, "error", err)
		select {
		case <-time.After(retry):
		case <-p.closing:
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active[key] {
		p.active[key] = false
		return true
	}
	delete(p.active, key)
	return false
}

func (p *Publisher) publish(ctx context.Context, key ctf.ChallengeKey) error {
	for {
		pending, err := p.outbox.Pending(ctx, key)
		if err != nil {
			return fmt.Errorf("read outbox: %w", err)
		}
		if len(pending) == 0 {
			return nil
		}
		for i, e := range pending {
			if err := p.send(ctx, e); err != nil {
				return errors.Join(err, p.outbox.Published(ctx, key, pending[:i]))
			}
		}
		if err := p.outbox.Published(ctx, key, pending); err != nil {
			return fmt.Errorf("empty outbox: %w", err)
		}
	}
}

// send gives an event to every sink that wants it. A sink that calls the event
// itself bad (400) would do so for ever, so it is skipped.
func (p *Publisher) send(ctx context.Context, e ctf.Event) error {
	ce, err := Encode(e)
	if err != nil {
		return err
	}
	for _, sink := range p.sinks {
		if len(sink.Types) > 0 && !slices.Contains(sink.Types, e.Type) {
			continue
		}
		err := Send(ctx, p.client, sink.URL, ce)
		if refused := (*RefusedError)(nil); errors.As(err, &refused) && refused.Status == http.StatusBadRequest {
			p.log.ErrorContext(ctx, "a sink called an event bad", "type", e.Type, "id", e.ID, "sink", sink.URL, "error", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("send %s to %s: %w", e.Type, sink.URL, err)
		}
	}
	return nil
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
