// Package ctf is the domain of Mayfly: challenges, the instances that sources
// hold of them, and the rules both obey. It knows the standard library alone,
// and nothing of Redis, Pulumi, Kubernetes or any wire format.
package ctf

import (
	"fmt"
	"iter"
	"unicode"
	"unicode/utf8"
)

// A Tenant separates the challenges of one organizer from another's. Ids are
// unique within a tenant only.
type Tenant string

// DefaultTenant is the tenant of a caller that names none.
const DefaultTenant Tenant = "default"

// A ChallengeID is chosen by the platform. It is hostile input: any text that
// [ChallengeID.Validate] accepts, slashes and unicode included.
type ChallengeID string

// A SourceID is the id of a team or a user on the platform, hostile like a
// [ChallengeID].
type SourceID string

// An Identity names one instance for ever. It is random, never shown to
// players, and safe in DNS labels and file names: 16 lower-case hex digits.
type Identity string

// MaxIDLength is the longest id in bytes that a platform may use.
const MaxIDLength = 256

// Validate tells whether the id may be stored, as a kind [Invalid] error.
func (id ChallengeID) Validate() error { return validateID("id", string(id)) }

// Validate tells whether the id may be stored, as a kind [Invalid] error.
func (id SourceID) Validate() error { return validateID("source_id", string(id)) }

func validateID(field, id string) error {
	switch {
	case id == "":
		return InvalidField(field, "must not be empty")
	case len(id) > MaxIDLength:
		return InvalidField(field, fmt.Sprintf("must not be longer than %d bytes, has %d", MaxIDLength, len(id)))
	case !utf8.ValidString(id):
		return InvalidField(field, "must be valid UTF-8")
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return InvalidField(field, fmt.Sprintf("must not contain the control character %U", r))
		}
	}
	return nil
}

// A ChallengeKey finds a challenge.
type ChallengeKey struct {
	Tenant Tenant
	ID     ChallengeID
}

// An InstanceKey finds one instance, whoever holds it.
type InstanceKey struct {
	Challenge ChallengeKey
	Identity  Identity
}

// A Role is what a caller may do.
type Role string

// RoleOperator may call every verb on every challenge of its tenant.
const RoleOperator Role = "operator"

// A Caller is who asks. It is resolved at the edge (package serve) and handed
// to every verb.
type Caller struct {
	Tenant Tenant
	Role   Role
}

// Challenge returns the key of the caller's challenge with that id.
func (c Caller) Challenge(id ChallengeID) ChallengeKey {
	return ChallengeKey{Tenant: c.Tenant, ID: id}
}

// Collect returns everything that a sequence yields, or its first error.
func Collect[T any](sequence iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for item, err := range sequence {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}
