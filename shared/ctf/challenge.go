package ctf

import (
	"context"
	"iter"
	"time"
)

// A Challenge is a scenario together with the terms on which its instances are
// given out.
type Challenge struct {
	Key ChallengeKey
	// Incarnation tells it from others that have its key before or after it. The
	// store chooses it.
	Incarnation string
	Scenario    Scenario
	// Timeout is how long an instance lives from its start or renewal; nil is
	// without limit.
	Timeout *time.Duration
	// Until is when every instance ends, and after which none is started; nil
	// is never.
	Until      *time.Time
	Additional map[string]string
	Pool       Pool
	// Generation counts the changes of scenario and additional, from 1. An
	// instance remembers the one that it was deployed with.
	Generation int64
	// Deleting is set from the moment a deletion was asked for until nothing of
	// the challenge remains.
	Deleting bool
}

// A Scenario is the program that makes the instances of a challenge.
type Scenario struct {
	// Reference is what the author wrote: registry/repository[:tag][@digest].
	Reference string
	// Digest is the manifest that Reference meant when it was validated, as
	// sha256:hex. Instances are made from it, whatever the tag says later.
	Digest string
}

// A Pool says how many instances are kept ready for sources to come.
type Pool struct {
	// Min is how many are kept ready; 0 is no pool.
	Min int64
	// Max is the number of instances, claimed ones included, at which the pool
	// is no longer filled; 0 is without limit. It is no cap on instances.
	Max int64
}

// A ChallengeChange is what UpdateChallenge asks for. A field whose Set flag
// is false stays as it is; set to nil or zero, it is cleared.
type ChallengeChange struct {
	SetScenario, SetTimeout, SetUntil, SetAdditional, SetMin, SetMax bool

	Scenario   Scenario
	Timeout    *time.Duration
	Until      *time.Time
	Additional map[string]string
	Pool       Pool
	// Strategy is how running instances follow a new scenario or additional.
	Strategy Strategy
}

// A Strategy is how a running instance follows its challenge.
type Strategy string

// The strategies of UpdateChallenge.
const (
	// InPlace changes the resources of the instance; the identity stays.
	InPlace Strategy = "in-place"
	// BlueGreen deploys a new identity, switches the source to it, and destroys
	// the old one.
	BlueGreen Strategy = "blue-green"
	// Recreate destroys the instance and deploys it anew under its identity.
	Recreate Strategy = "recreate"
)

// A ChallengeUpdate is what an update recorded. The work on instances is still
// to be done: each of Updating and Deleting is to be settled.
type ChallengeUpdate struct {
	Challenge Challenge
	// Updating are the claimed instances that must follow the challenge.
	Updating []Identity
	// Deleting are pooled instances that are outdated or too many.
	Deleting []Identity
}

// A Deletion is what was asked for by one call.
type Deletion struct {
	// First: it belongs to this call, which marked what is to go or took it over
	// from one that failed. If not, somebody else is at it.
	First bool
	// Request names the call.
	Request string
	// Incarnation is the challenge, if it is one that is to go.
	Incarnation string
}

// A ChallengeReader reads challenges. No read waits for other work.
type ChallengeReader interface {
	// Challenge returns one challenge, or a ChallengeNotFound error.
	Challenge(ctx context.Context, key ChallengeKey) (Challenge, error)
	// Challenges yields every challenge of a tenant, each once, in no order. An
	// error ends the sequence; [ErrUnreadable] comes after all others.
	Challenges(ctx context.Context, tenant Tenant) iter.Seq2[Challenge, error]
	// Claimed yields the instances that sources hold of a challenge now, each
	// once, in no order: neither pooled nor ended ones, nor any that is pending,
	// deleting or failed. An unknown challenge yields none. [ErrUnreadable] comes
	// after all others.
	Claimed(ctx context.Context, key ChallengeKey) iter.Seq2[Instance, error]
}

// A ChallengeWriter records what is to become of challenges. Each call is one
// atomic step; it deploys and destroys nothing.
type ChallengeWriter interface {
	// CreateChallenge stores a new challenge in generation 1, or returns a
	// ChallengeExists error.
	CreateChallenge(ctx context.Context, c Challenge) error
	// UpdateChallenge applies the change. The generation rises when the scenario
	// digest or additional differ from what is stored, and then outdates every
	// instance. Every claimed instance gets a new end, counted from now. Claimed
	// instances of an older generation, whatever outdated them, are marked
	// updating with the strategy; pooled ones that are outdated or too many are
	// marked deleting.
	UpdateChallenge(ctx context.Context, key ChallengeKey, change ChallengeChange) (ChallengeUpdate, error)
	// DeleteChallenge marks the challenge and all its instances deleting and
	// returns their identities.
	DeleteChallenge(ctx context.Context, key ChallengeKey) (d Deletion, instances []Identity, err error)
	// DisownChallenge is for the call that was the first and has failed: if the
	// challenge is still there, the next call is the first, and so is the next one
	// for each of these instances. It may be called again.
	DisownChallenge(ctx context.Context, key ChallengeKey, d Deletion, instances []Identity) error
	// RemoveChallenge forgets a challenge that is deleting and has no instance
	// left. removed is false when this incarnation was already gone. With instances
	// left it returns a kind Conflict error.
	RemoveChallenge(ctx context.Context, key ChallengeKey, incarnation string) (removed bool, err error)
}
