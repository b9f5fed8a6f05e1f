package redis

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The key space, in full. The keys of one challenge begin with
//
//	mayfly:{H}:    H is a hash of tenant and challenge id, since ids are hostile;
//	               the braces put all of them in one slot of a cluster
//
// and scripts, which get that prefix as KEYS[1], derive the rest (see
// shared/docs/decisions/0002-undeclared-keys.md):
//
//	c       hash    the challenge: schema, tenant, id, incarnation, generation, revision, reference, digest,
//	                timeout, ends_at, additional, min, max, deleting, pool_rests_until (a pooled deployment failed)
//	s       hash    source -> identity: who holds what. The entry stays until the record is forgotten or replaced
//	i       set     the identities of all instances, whatever their state
//	p       list    the identities that can be claimed: pooled, ready, of the current generation
//	q       set     the identities of all pooled instances, pending or ready
//	d       zset    the identities that are deleting, with the time from which somebody else may see to them
//	i:ID    hash    an instance: schema, identity, fence, revision, changed_at, state, source, since, last_renew, ends_at,
//	                info (sealed: connection info and flags), additional, generation, reference, digest, strategy,
//	                replaces, replacement, bare (settled_by when a recreate began), failure (sealed), idempotency,
//	                attempts (leases since it asks for its state),
//	                and, so that a command sent twice is done once, request, deleted_by, settled_by, appended
//	x:ID    string  the base of its checkpoint (compressed, sealed)
//	j:ID    list    the journal since (each entry compressed, sealed)
//	l:ID    string  its lease: the token of the holder, as redislock keeps it, with a time to live
//	o       stream  the outbox. It outlives the challenge, by an hour
//	t:ID    string  what the request ID made, took, changed or deletes, an identity or an incarnation, for a minute;
//	                "deleted" if it is a reservation of which the instance was
//
// What is added here is added to a backup as well: snapshot.lua, restore_*.lua. The
// last three are not in it, nor is p, since a restore leaves no pool.
//
// One is written once and never again, mayfly:installation, a string: see
// [Store.Installation]. It begins with "restoring " until a restore has ended.
//
// Another is empty and lives for a minute, mayfly:wait, a string: see wait.go.
//
// Across challenges, all hints that may name too much. One behind which there is
// nothing stays until a reader of its list passes by, as the tick does of what a
// source held:
//
//	mayfly:tenants          set   every tenant that ever had a challenge; never shrinks
//	mayfly:challenges:T     hash  challenge id -> when it was touched
//	mayfly:source:T:H       hash  challenge id -> when it was touched, for a hash of tenant and source
//	mayfly:due              zset  what to look at, by when; see dueEntry
//
// Beside the last one, in its slot, what is known of the fast tick (tick.go):
//
//	{mayfly:due}:tick       hash    state, on or off, and turn, which rises with each change
//	{mayfly:due}:tick:l     string  the lease of whoever turns it off
const (
	installationKey = "mayfly:installation"
	waitKey         = "mayfly:wait"
	tenantsKey      = "mayfly:tenants"
	dueKey          = "mayfly:due"
	tickLeaseKey    = "{" + dueKey + "}:tick:l"
)

// schema is the version of records that this code writes; scripts refuse what
// is above it.
const schema = 1

func challengePrefix(key ctf.ChallengeKey) string {
	return "mayfly:{" + digest(string(key.Tenant), string(key.ID)) + "}:"
}

func challengesKey(tenant ctf.Tenant) string { return "mayfly:challenges:" + string(tenant) }

func sourceKey(tenant ctf.Tenant, source ctf.SourceID) string {
	return "mayfly:source:" + string(tenant) + ":" + digest(string(tenant), string(source))
}

func digest(tenant, id string) string {
	sum := sha256.Sum256([]byte(tenant + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// The kinds of due entries. due.lua names them as well.
const (
	dueInstance = "instance" // one identity, at its end
	dueSource   = "source"   // what a source holds, some time after a step
	duePool     = "pool"     // the pool and what is deleting
	dueWhole    = "whole"    // every instance, after an update
)

// A dueEntry is one thing to look at. Its member in the sorted set is the
// second it fires (an announcement, see look.lua) or "-" (a date), a space, and
// the JSON list of kind, tenant, challenge and name.
type dueEntry struct {
	kind      string
	challenge ctf.ChallengeKey
	name      string // the identity or the source
}

func (e dueEntry) String() string {
	// Strings always marshal. Bytes that are not UTF-8 would change, but ids are
	// checked for that.
	text, _ := json.Marshal([]string{e.kind, string(e.challenge.Tenant), string(e.challenge.ID), e.name})
	return string(text)
}

func (e dueEntry) member() string { return "- " + e.String() }

func parseDueEntry(member string) (dueEntry, error) {
	_, text, _ := strings.Cut(member, " ")
	var parts []string
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return dueEntry{}, fmt.Errorf("read the due entry %q: %w", member, err)
	}
	if len(parts) != 4 {
		return dueEntry{}, fmt.Errorf("read the due entry %q: %w", member, errors.New("it does not have four parts"))
	}
	switch parts[0] {
	case dueInstance, dueSource, duePool, dueWhole:
		return dueEntry{parts[0], ctf.ChallengeKey{Tenant: ctf.Tenant(parts[1]), ID: ctf.ChallengeID(parts[2])}, parts[3]}, nil
	}
	return dueEntry{}, fmt.Errorf("read the due entry %q: %w", member, errors.New("it is of no known kind"))
}
