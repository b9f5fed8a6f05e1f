package ctf

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// A Kind is the class of an error; package serve turns it into a status code.
type Kind string

// The kinds of errors. Whatever is not an [*Error] counts as Internal.
const (
	Invalid         Kind = "invalid"         // the request can never work
	NotFound        Kind = "not found"       // what it names is not there
	Exists          Kind = "exists"          // what it would make is there already
	Precondition    Kind = "precondition"    // it can't work as things stand: expired, no renewal, registry away
	Conflict        Kind = "conflict"        // something else came between; try again
	Exhausted       Kind = "exhausted"       // a limit is reached; try again later
	Unavailable     Kind = "unavailable"     // a part of the system is away; try again later
	Unauthenticated Kind = "unauthenticated" // who asks did not show the token
	Internal        Kind = "internal"        // our fault, or the scenario's
)

// A Reason names an error for programs, as the wire contract does.
type Reason string

// The reasons of the error catalogue.
const (
	ReasonChallengeExists    Reason = "CHALLENGE_ALREADY_EXISTS"
	ReasonChallengeNotFound  Reason = "CHALLENGE_NOT_FOUND"
	ReasonChallengeExpired   Reason = "CHALLENGE_EXPIRED"
	ReasonChallengeNoRenewal Reason = "CHALLENGE_NO_RENEWAL"
	ReasonPoolerOutOfBounds  Reason = "CHALLENGE_POOLER_OUT_OF_BOUNDS"
	ReasonInvalidUpdateMask  Reason = "CHALLENGE_INVALID_UPDATE_MASK"
	ReasonInstanceExists     Reason = "INSTANCE_ALREADY_EXISTS"
	ReasonInstanceNotFound   Reason = "INSTANCE_NOT_FOUND"
	ReasonInstanceExpired    Reason = "INSTANCE_EXPIRED"
	ReasonInstanceDeleted    Reason = "INSTANCE_DELETED"
	ReasonReferenceMalformed Reason = "OCI_REFERENCE_MALFORMED"
	ReasonReferenceNotFound  Reason = "OCI_REFERENCE_NOT_FOUND"
	ReasonOCIInteraction     Reason = "OCI_INTERACTION"
	ReasonScenarioMismatch   Reason = "SCENARIO_NON_MATCHING_SPECIFICATION"
	ReasonScenarioPreprocess Reason = "SCENARIO_PREPROCESSING"
	ReasonDeploymentFailed   Reason = "DEPLOYMENT_FAILED"
	ReasonInvalidArgument    Reason = "INVALID_ARGUMENT"
	ReasonUnavailable        Reason = "UNAVAILABLE"
	ReasonExhausted          Reason = "RESOURCE_EXHAUSTED"
	ReasonUnauthenticated    Reason = "UNAUTHENTICATED"
	ReasonInternal           Reason = "INTERNAL_ERROR"
)

// The reasons of single fields.
const (
	MustBePositive     = "MUST_BE_POSITIVE"
	InvertedBoundaries = "INVERTED_BOUNDARIES"
	Validation         = "VALIDATION"
)

// ErrLeaseLost is why work ends whose lease somebody else holds by now.
var ErrLeaseLost = errors.New("the lease is lost")

// ErrSuperseded is why work ends whose record asks for something else by now.
var ErrSuperseded = errors.New("the record asks for something else by now")

// ErrUnreadable is about a record that is damaged, or newer than this code. Who
// walks over many is told of it after all others.
var ErrUnreadable = errors.New("a record can't be read")

// ErrNoneReady is why a reservation of what is ready alone is refused: an
// instance would have to be deployed.
var ErrNoneReady = errors.New("no instance is ready")

// An Error is an error that a user may read. Message and Detail reach the
// caller; Err is for the log alone.
type Error struct {
	Kind   Kind
	Reason Reason
	// Message is a sentence that is the same for every error of the reason.
	Message string
	// Detail says what exactly, and what to do about it.
	Detail string
	// Metadata are the names and values that the contract gives the reason.
	Metadata map[string]string
	// Violations are the fields at fault, if fields are.
	Violations []Violation
	// RetryAfter is when the same call may succeed; 0 says nothing of it.
	RetryAfter time.Duration
	// Err is the cause; it may be nil.
	Err error
}

// A Violation is one field at fault.
type Violation struct {
	Field, Reason, Description string
}

// Error returns message, detail and cause in one line.
func (e *Error) Error() string {
	parts := []string{strings.TrimSuffix(e.Message, ".")}
	if e.Detail != "" {
		parts = append(parts, e.Detail)
	}
	for _, v := range e.Violations {
		parts = append(parts, v.Field+" "+v.Description)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is tells whether target is an *Error of the same reason, so that
// errors.Is(err, &ctf.Error{Reason: r}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// ReasonOf returns the reason of the first [*Error] in err's chain, "" for nil,
// and ReasonInternal for any other error.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}

// ChallengeExists says that the id is taken.
func ChallengeExists(id ChallengeID) error {
	return &Error{Kind: Exists, Reason: ReasonChallengeExists, Message: "Challenge already exists.",
		Detail: "delete or update it instead", Metadata: map[string]string{"id": string(id)}}
}

// ChallengeNotFound says that there is no such challenge.
func ChallengeNotFound(id ChallengeID) error {
	return &Error{Kind: NotFound, Reason: ReasonChallengeNotFound, Message: "Challenge not found.",
		Metadata: map[string]string{"id": string(id)}}
}

// ChallengeExpired says that no instance is started any more.
func ChallengeExpired(id ChallengeID) error {
	return &Error{Kind: Precondition, Reason: ReasonChallengeExpired, Message: "Challenge has expired.",
		Detail: "its end date has passed; move the date to start instances again", Metadata: map[string]string{"id": string(id)}}
}

// ChallengeNoRenewal says that instances of the challenge have no timeout to
// renew.
func ChallengeNoRenewal(id ChallengeID) error {
	return &Error{Kind: Precondition, Reason: ReasonChallengeNoRenewal, Message: "Challenge does not accept renewal.",
		Detail: "it has no timeout", Metadata: map[string]string{"id": string(id)}}
}

// InstanceExists says that the source has an instance of the challenge.
func InstanceExists(id ChallengeID, source SourceID) error {
	return &Error{Kind: Exists, Reason: ReasonInstanceExists, Message: "Instance already exists.", Metadata: instanceMetadata(id, source)}
}

// InstanceNotFound says that the source has no instance of the challenge.
func InstanceNotFound(id ChallengeID, source SourceID) error {
	return &Error{Kind: NotFound, Reason: ReasonInstanceNotFound, Message: "Instance not found.", Metadata: instanceMetadata(id, source)}
}

// InstanceExpired says that the instance came to its end and can't be renewed.
func InstanceExpired(id ChallengeID, source SourceID) error {
	return &Error{Kind: Precondition, Reason: ReasonInstanceExpired, Message: "Instance can't be renewed as it expired.",
		Detail: "create a new one", Metadata: instanceMetadata(id, source)}
}

// InstanceDeleted says that the instance was deleted while it was being made.
func InstanceDeleted(id ChallengeID, source SourceID) error {
	return &Error{Kind: Conflict, Reason: ReasonInstanceDeleted, Message: "Instance was deleted while it was being deployed.",
		Metadata: instanceMetadata(id, source)}
}

func instanceMetadata(id ChallengeID, source SourceID) map[string]string {
	return map[string]string{"challenge_id": string(id), "source_id": string(source)}
}

// InvalidField says that one field of the request is at fault.
func InvalidField(field, description string) error {
	return &Error{Kind: Invalid, Reason: ReasonInvalidArgument, Message: "Invalid argument.",
		Violations: []Violation{{Field: field, Reason: Validation, Description: description}}}
}

// InvalidUpdateMask says that a mask names a field that can't be updated.
func InvalidUpdateMask(mask, description string) error {
	return &Error{Kind: Invalid, Reason: ReasonInvalidUpdateMask, Message: "Invalid update mask.",
		Metadata:   map[string]string{"update-mask": mask},
		Violations: []Violation{{Field: "update-mask", Reason: "INVALID_UPDATE_MASK", Description: description}}}
}

// CheckPool returns an error unless the pool is sane. Only the bounds that are
// not nil are looked at, so that an update may change one alone.
func CheckPool(minimum, maximum *int64) error {
	var violations []Violation
	metadata := map[string]string{}
	if minimum != nil {
		metadata["min"] = strconv.FormatInt(*minimum, 10)
		if *minimum < 0 {
			violations = append(violations, Violation{"min", MustBePositive, "must not be negative"})
		}
	}
	if maximum != nil {
		metadata["max"] = strconv.FormatInt(*maximum, 10)
		if *maximum < 0 {
			violations = append(violations, Violation{"max", MustBePositive, "must not be negative"})
		}
	}
	if minimum != nil && maximum != nil && *maximum > 0 && *minimum > *maximum {
		violations = append(violations, Violation{"min", InvertedBoundaries, "must not be above max"})
	}
	if len(violations) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Reason: ReasonPoolerOutOfBounds, Message: "Pooler configuration out of bounds.",
		Metadata: metadata, Violations: violations}
}

// ReferenceMalformed says that a scenario reference can't be parsed.
func ReferenceMalformed(reference string, err error) error {
	return &Error{Kind: Invalid, Reason: ReasonReferenceMalformed, Message: "OCI reference is malformed.",
		Detail: err.Error(), Metadata: referenceMetadata(reference), Err: err}
}

// ReferenceNotFound says that the registry has no such tag or digest.
func ReferenceNotFound(reference string, err error) error {
	return &Error{Kind: Invalid, Reason: ReasonReferenceNotFound, Message: "Registry does not contain reference.",
		Metadata: referenceMetadata(reference), Err: err,
		Violations: []Violation{{"scenario", string(ReasonReferenceNotFound), "Reference not found."}}}
}

// RegistryUnreachable says that the registry does not answer.
func RegistryUnreachable(reference string, err error) error {
	return &Error{Kind: Precondition, Reason: ReasonOCIInteraction,
		Message:  "Registry is not available. You might want to try again later.",
		Metadata: referenceMetadata(reference), Err: err,
		Violations: []Violation{{"scenario", string(ReasonOCIInteraction), "Registry is unreachable."}}}
}

// RegistryDenied says that the registry wants other credentials than ours.
func RegistryDenied(reference string, err error) error {
	return &Error{Kind: Precondition, Reason: ReasonOCIInteraction,
		Message:  "Registry requires authentication. You may not be authorized to use it.",
		Metadata: referenceMetadata(reference), Err: err,
		Violations: []Violation{{"scenario", string(ReasonOCIInteraction), "Credentials for the registry are missing or wrong."}}}
}

// RegistryFailed says that the registry answered something unexpected.
func RegistryFailed(reference string, err error) error {
	return &Error{Kind: Internal, Reason: ReasonOCIInteraction, Message: "OCI interaction failed.",
		Metadata: referenceMetadata(reference), Err: err}
}

// ScenarioMismatch says that the scenario is not one we can run; detail tells
// its author why.
func ScenarioMismatch(reference, detail string, err error) error {
	return &Error{Kind: Invalid, Reason: ReasonScenarioMismatch, Message: "Scenario does not match specification.",
		Detail: detail, Metadata: referenceMetadata(reference), Err: err,
		Violations: []Violation{{"scenario", Validation, detail}}}
}

// ScenarioPreprocessing says that the scenario's source does not compile;
// output is the compiler's.
func ScenarioPreprocessing(reference, directory, output string, err error) error {
	return &Error{Kind: Internal, Reason: ReasonScenarioPreprocess, Message: "Scenario pre-processing failed.",
		Detail: output, Metadata: map[string]string{"reference": reference, "directory": directory}, Err: err}
}

func referenceMetadata(reference string) map[string]string {
	return map[string]string{"reference": reference}
}

// DeploymentFailed says that a scenario ran and did not get to its end; detail
// tells its author what failed and why.
func DeploymentFailed(detail string, err error) error {
	return &Error{Kind: Internal, Reason: ReasonDeploymentFailed, Message: "Deployment failed.", Detail: detail, Err: err}
}

// StoreUnavailable says that the store does not answer.
func StoreUnavailable(err error) error {
	return &Error{Kind: Unavailable, Reason: ReasonUnavailable, Message: "The state store is not available.",
		Detail: "nothing was lost, try again in a moment", Err: err}
}

// FunctionUnavailable says that the function of a verb does not answer; detail
// tells whether the request reached it.
func FunctionUnavailable(verb, detail string, err error) error {
	return &Error{Kind: Unavailable, Reason: ReasonUnavailable, Message: "The function is not available.",
		Detail: verb + " " + detail, Metadata: map[string]string{"verb": verb}, Err: err}
}

// TokenRequired says that the request carries no token, or a wrong one.
func TokenRequired() error {
	return &Error{Kind: Unauthenticated, Reason: ReasonUnauthenticated, Message: "A token is required.",
		Detail: `send it as "Authorization: Bearer TOKEN", or as the password of HTTP Basic authentication`}
}

// LimitReached says which limit stands in the way.
func LimitReached(detail string) error {
	return &Error{Kind: Exhausted, Reason: ReasonExhausted, Message: "A limit is reached.", Detail: detail}
}

// Busy says that too much is asked for at once, and when to ask again. Nothing
// was begun.
func Busy(detail string, again time.Duration) error {
	return &Error{Kind: Exhausted, Reason: ReasonExhausted, Message: "A limit is reached.", Detail: detail, RetryAfter: again}
}
