package ctf

import (
	"context"
	"time"
)

// An EventType names what happened, without the prefix that the wire adds.
type EventType string

// What happens to challenges and instances.
const (
	ChallengeCreated EventType = "challenge.created"
	ChallengeUpdated EventType = "challenge.updated"
	ChallengeDeleted EventType = "challenge.deleted"
	// ChallengeUnsettled: work on its instances is left that nobody is at.
	ChallengeUnsettled EventType = "challenge.unsettled"
	InstancePending    EventType = "instance.pending"
	InstanceReady      EventType = "instance.ready"
	InstanceClaimed    EventType = "instance.claimed"
	InstanceRenewed    EventType = "instance.renewed"
	InstanceUpdating   EventType = "instance.updating"
	InstanceDeleting   EventType = "instance.deleting"
	InstanceFailed     EventType = "instance.failed"
	InstanceDestroyed  EventType = "instance.deleted"
)

// An Event tells that something happened. It is a hint: it may come twice,
// late, out of order or never. It never carries flags or connection info.
type Event struct {
	// ID is stable: the same for the same change, however often it is sent.
	ID        string
	Type      EventType
	Challenge ChallengeKey
	// Identity is empty for what happens to a challenge as a whole.
	Identity Identity
	Revision int64
	At       time.Time
}

// An Outbox holds the events of a challenge until they are published. Writers
// of records add to it in the same step.
type Outbox interface {
	// Pending returns up to a hundred events of a challenge, oldest first, and the
	// position of the last one: those after it are got with that. "" is before all.
	Pending(ctx context.Context, key ChallengeKey, after string) (events []Event, last string, err error)
	// Published drops events. Those that are not there are ignored.
	Published(ctx context.Context, key ChallengeKey, events []Event) error
}

// A Relay hands work on as an event.
type Relay interface {
	// HandOn writes a ChallengeUnsettled event, by which work on the challenge is
	// gone on with soon. It is to be announced as others are. A challenge that is
	// not there has no work.
	HandOn(ctx context.Context, key ChallengeKey) error
}

// An Announcer is told that the outbox of a challenge may hold events. It
// returns at once and publishes on its own time.
type Announcer interface {
	Announce(key ChallengeKey)
}
