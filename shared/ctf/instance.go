package ctf

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"time"
)

// An Instance is one running copy of a challenge.
type Instance struct {
	Key InstanceKey
	// Source holds the instance; empty while it is pooled.
	Source SourceID
	State  State
	// Since is when the deployment ended; claiming does not change it.
	Since time.Time
	// LastRenew is Since, until the instance is claimed or renewed.
	LastRenew time.Time
	// Until is when the instance ends; nil is never.
	Until          *time.Time
	ConnectionInfo string
	Flags          []string
	// Additional is what the creator of the instance asked for, without the
	// challenge's own.
	Additional map[string]string
	// Generation is that of the challenge when the instance was deployed.
	Generation int64
	// Scenario is what the instance was deployed from.
	Scenario Scenario
	// Strategy is set while State is [Updating].
	Strategy Strategy
	// Replaces is set on the pending half of a blue-green update: the instance
	// whose source is switched over once this one is ready.
	Replaces Identity
	// Revision rises with every recorded change.
	Revision int64
	// Failure says why the last deployment failed, in words for an author.
	Failure string
}

// A State is where an instance is in its life; shared/docs/states.md is the
// table of who changes it to what.
type State string

// The states of an instance.
const (
	Pending  State = "pending"  // to be deployed
	Ready    State = "ready"    // deployed
	Updating State = "updating" // deployed, to be brought to its challenge's generation
	Deleting State = "deleting" // to be destroyed and forgotten
	Failed   State = "failed"   // nothing usable is deployed; the next create replaces it
)

// NewIdentity draws a fresh identity: the first 16 hex digits of the SHA-256
// of 16 random bytes.
func NewIdentity() Identity {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails, by its documentation
	sum := sha256.Sum256(seed[:])
	return Identity(hex.EncodeToString(sum[:8]))
}

// A Reservation is what CreateInstance found for a source.
type Reservation struct {
	Instance Instance
	// Claimed: the instance came from the pool and is ready now, nothing is
	// left to do.
	Claimed bool
	// Attached: an earlier create with the same idempotency key made it. It may
	// be ready, or still be somebody's work.
	Attached bool
	// Replaced is an instance that had ended or failed and made way; it is
	// deleting and to be settled. Empty if there was none.
	Replaced Identity
	// Request names this reservation; see [InstanceWriter.Follow].
	Request string
}

// A ReserveRequest asks for an instance for a source.
type ReserveRequest struct {
	Challenge  ChallengeKey
	Source     SourceID
	Additional map[string]string
	// IdempotencyKey makes a repeated request attach to the first one's
	// instance; empty is none.
	IdempotencyKey string
	// ReadyOnly asks for what needs no deployment of its own: an instance that can
	// be claimed as it is, or that of an earlier request with the same key.
	ReadyOnly bool
}

// An InstanceReader reads instances. No read waits for other work.
type InstanceReader interface {
	// Instance returns what a source holds of a challenge, or an
	// InstanceNotFound error, also when there is no such challenge or when the
	// instance is pending, failed, deleting or past its end.
	Instance(ctx context.Context, challenge ChallengeKey, source SourceID) (Instance, error)
	// BySource yields all that a source holds, over all challenges of the
	// tenant, each once, in no order. An error ends the sequence; [ErrUnreadable]
	// comes after all others.
	BySource(ctx context.Context, tenant Tenant, source SourceID) iter.Seq2[Instance, error]
}

// An InstanceWriter records what is to become of instances. Each call is one
// atomic step; it deploys and destroys nothing.
type InstanceWriter interface {
	// Reserve binds an instance to a source: one from the pool if it has one,
	// else a new pending record. A pooled instance that is claimed with
	// additional settings is pending too, and keeps its Since. Errors, in order:
	// ChallengeNotFound, ChallengeExpired, InstanceExists, and [ErrNoneReady],
	// which has written nothing. What somebody deleted before this call learned of
	// it is Deleting, and may be gone.
	Reserve(ctx context.Context, req ReserveRequest) (Reservation, error)
	// Follow returns what the source holds because of this reservation, although
	// an update may have moved it to another identity. It returns an InstanceDeleted
	// error when that was deleted a moment ago, and InstanceNotFound when it is gone
	// and it is not known why.
	Follow(ctx context.Context, r Reservation) (Instance, error)
	// Renew moves the end of an instance. Errors, in order: ChallengeNotFound,
	// InstanceNotFound, ChallengeNoRenewal, InstanceExpired.
	Renew(ctx context.Context, challenge ChallengeKey, source SourceID) (Instance, error)
	// DeleteInstance marks what the source holds deleting. Errors, in order:
	// ChallengeNotFound, InstanceNotFound.
	DeleteInstance(ctx context.Context, challenge ChallengeKey, source SourceID) (id Identity, d Deletion, err error)
	// DisownInstance is for the call that was the first and has failed: if the
	// instance is still there, the next call is the first. It may be called again.
	DisownInstance(ctx context.Context, key InstanceKey, d Deletion) error
}

// A PoolWriter fills pools.
type PoolWriter interface {
	// ReservePooled records one more pending pooled instance if the pool of the
	// challenge is short of one. ok is false if it is not, if the challenge is
	// unknown, expired or deleting, and for half a minute after a deployment for
	// the pool has failed.
	ReservePooled(ctx context.Context, challenge ChallengeKey) (id Identity, ok bool, err error)
}

// A DueReader finds what is to be destroyed.
type DueReader interface {
	// Due yields the instances whose end has passed, and those that are deleting
	// for whatever reason and were announced to be looked at by now. It marks
	// each deleting. Costs O(log n + due).
	Due(ctx context.Context) iter.Seq2[InstanceKey, error]
	// RestTick turns the fast tick off, unless something is due before reconcile
	// comes again. Whoever writes what becomes due turns it on. It does nothing
	// where the tick is always on, and goes on although ctx ends.
	RestTick(ctx context.Context) error
}

// An Auditor walks everything that is stored, page by page, for reconcile.
type Auditor interface {
	// Now is the time that all records and events go by.
	Now(ctx context.Context) (time.Time, error)
	// Tenants yields every tenant.
	Tenants(ctx context.Context) iter.Seq2[Tenant, error]
	// All yields every instance of a challenge in any state, pooled ones
	// included, and whether somebody holds its lease now. [ErrUnreadable] comes
	// after all others.
	All(ctx context.Context, key ChallengeKey) iter.Seq2[AuditEntry, error]
	// Recorded tells, for each key in order, whether there is a record of the
	// instance, whatever its state. One that was never recorded, or is forgotten,
	// stays so: identities are not used twice.
	Recorded(ctx context.Context, keys []InstanceKey) ([]bool, error)
	// RepairIndexes makes every index that should name the challenge or one of
	// its instances name it.
	RepairIndexes(ctx context.Context, key ChallengeKey) error
	// RepairTick makes the fast tick what it should be, whatever was recorded of
	// it; see [DueReader].
	RepairTick(ctx context.Context) error
}

// An AuditEntry is one instance as reconcile sees it.
type AuditEntry struct {
	Instance Instance
	Leased   bool
	// Age is the time since the record last changed.
	Age time.Duration
	// Deployed: there is a checkpoint, so something may be deployed.
	Deployed bool
}
