// Package events carries the events of the domain as CloudEvents 1.0 over
// HTTP: it translates them, and publishes what the outboxes hold. It decides
// nothing about what happens next.
package events

import (
	"fmt"
	"net/url"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// TypePrefix precedes every [ctf.EventType] on the wire.
	TypePrefix = "dev.mayfly."
	// TickType is the type of the event that wakes expire and reconcile.
	TickType = TypePrefix + "tick"
	// PingType is what a Knative PingSource sends; it cannot be told another.
	PingType = "dev.knative.sources.ping"

	source = "/mayfly"
)

// data is what an event tells beside its attributes: ids and the revision,
// never flags.
type data struct {
	Tenant    ctf.Tenant      `json:"tenant"`
	Challenge ctf.ChallengeID `json:"challenge"`
	Identity  ctf.Identity    `json:"identity,omitempty"`
	Revision  int64           `json:"revision"`
}

// Encode turns an event of the domain into a CloudEvent. The id is the
// event's own; the subject is challenge/identity, with the challenge's id
// escaped as a path segment.
func Encode(e ctf.Event) (cloudevents.Event, error) {
	ce := cloudevents.NewEvent()
	ce.SetID(e.ID)
	ce.SetSource(source)
	ce.SetType(TypePrefix + string(e.Type))
	ce.SetTime(e.At)
	subject := url.PathEscape(string(e.Challenge.ID))
	if e.Identity != "" {
		subject += "/" + string(e.Identity)
	}
	ce.SetSubject(subject)
	err := ce.SetData(cloudevents.ApplicationJSON, data{e.Challenge.Tenant, e.Challenge.ID, e.Identity, e.Revision})
	if err != nil {
		return ce, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	return ce, nil
}

// Decode turns a CloudEvent back. An event that is none of ours is a kind
// Invalid error.
func Decode(ce cloudevents.Event) (ctf.Event, error) {
	var d data
	if len(ce.Type()) <= len(TypePrefix) || ce.Type()[:len(TypePrefix)] != TypePrefix {
		return ctf.Event{}, ctf.InvalidField("type", fmt.Sprintf("%q is not an event of this system", ce.Type()))
	}
	if err := ce.DataAs(&d); err != nil {
		return ctf.Event{}, ctf.InvalidField("data", err.Error())
	}
	if err := d.Challenge.Validate(); err != nil {
		return ctf.Event{}, err
	}
	if d.Tenant == "" {
		d.Tenant = ctf.DefaultTenant
	}
	return ctf.Event{
		ID:        ce.ID(),
		Type:      ctf.EventType(ce.Type()[len(TypePrefix):]),
		Challenge: ctf.ChallengeKey{Tenant: d.Tenant, ID: d.Challenge},
		Identity:  d.Identity,
		Revision:  d.Revision,
		At:        ce.Time(),
	}, nil
}

// CheckTick returns a kind Invalid error unless the event is a tick, ours or a
// PingSource's.
func CheckTick(ce cloudevents.Event) error {
	if t := ce.Type(); t != TickType && t != PingType {
		return ctf.InvalidField("type", fmt.Sprintf("is %q, want %q or %q", t, TickType, PingType))
	}
	return nil
}
