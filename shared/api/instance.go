package api

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// NewReservation reads a request to create an instance, together with the
// idempotency key of the context. The error, if any, is of kind Invalid.
func NewReservation(
	ctx context.Context, caller ctf.Caller, req *instancev1.CreateInstanceRequest,
) (ctf.ReserveRequest, error) {
	challenge, source, err := InstanceIDs(caller, req)
	if err != nil {
		return ctf.ReserveRequest{}, err
	}
	return ctf.ReserveRequest{
		Challenge:      challenge,
		Source:         source,
		Additional:     req.GetAdditional(),
		IdempotencyKey: IdempotencyKey(ctx),
	}, nil
}

// InstanceIDs reads which instance a request means. The error, if any, is of
// kind Invalid and names the field challenge_id or source_id.
func InstanceIDs(caller ctf.Caller, req interface {
	GetChallengeId() string
	GetSourceId() string
}) (ctf.ChallengeKey, ctf.SourceID, error) {
	challenge, err := ChallengeKey(caller, req.GetChallengeId())
	if err != nil {
		return ctf.ChallengeKey{}, "", renameField(err, "challenge_id")
	}
	source := ctf.SourceID(req.GetSourceId())
	if err := source.Validate(); err != nil {
		return ctf.ChallengeKey{}, "", err
	}
	return challenge, source, nil
}

// renameField gives the violation the name that its field has in the request.
func renameField(err error, field string) error {
	e, ok := errors.AsType[*ctf.Error](err)
	if !ok || len(e.Violations) != 1 {
		return err
	}
	return ctf.InvalidField(field, e.Violations[0].Description)
}

// Instance writes an instance. Its identity stays inside.
func Instance(i ctf.Instance) *instancev1.Instance {
	out := &instancev1.Instance{
		ChallengeId:    string(i.Key.Challenge.ID),
		SourceId:       string(i.Source),
		Since:          timestamppb.New(i.Since),
		LastRenew:      timestamppb.New(i.LastRenew),
		ConnectionInfo: i.ConnectionInfo,
		Flags:          i.Flags,
		Additional:     i.Additional,
	}
	if i.Until != nil {
		out.Until = timestamppb.New(*i.Until)
	}
	if len(i.Flags) == 1 {
		//nolint:staticcheck // Clients that are older than flags read it still.
		out.Flag = &i.Flags[0]
	}
	return out
}

// MaxIdempotencyKeyLength is the longest idempotency key in bytes.
const MaxIdempotencyKeyLength = 256

type idempotencyKey struct{}

// WithIdempotencyKey returns a context that carries the key with which the
// caller marked its request. The error, if any, is of kind Invalid. An empty
// key is none.
func WithIdempotencyKey(ctx context.Context, key string) (context.Context, error) {
	if len(key) > MaxIdempotencyKeyLength {
		return ctx, ctf.InvalidField("Idempotency-Key", fmt.Sprintf(
			"must not be longer than %d bytes, has %d", MaxIdempotencyKeyLength, len(key)))
	}
	if key == "" {
		return ctx, nil
	}
	return context.WithValue(ctx, idempotencyKey{}, key), nil
}

// IdempotencyKey returns the key with which the caller marked its request, or
// "" if it did not.
func IdempotencyKey(ctx context.Context) string {
	key, _ := ctx.Value(idempotencyKey{}).(string)
	return key
}
