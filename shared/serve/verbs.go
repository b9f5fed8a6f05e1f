package serve

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Unary is a verb with one answer. Its error becomes a code by the kind of
// the [ctf.Error] in it; any other error is INTERNAL to the caller, and its
// text goes to the log alone.
type Unary[Req, Res any] func(context.Context, ctf.Caller, *Req) (*Res, error)

// A Stream is a verb with any number of answers. It passes each to send and
// stops when send returns an error, which it returns. Other errors are as in
// [Unary].
type Stream[Req, Res any] func(ctx context.Context, caller ctf.Caller, req *Req, send func(*Res) error) error

// Verbs are the calls of the API.
type Verbs struct {
	CreateChallenge   Unary[challengev1.CreateChallengeRequest, challengev1.Challenge]
	RetrieveChallenge Unary[challengev1.RetrieveChallengeRequest, challengev1.Challenge]
	QueryChallenge    Stream[emptypb.Empty, challengev1.Challenge]
	UpdateChallenge   Unary[challengev1.UpdateChallengeRequest, challengev1.Challenge]
	DeleteChallenge   Unary[challengev1.DeleteChallengeRequest, emptypb.Empty]

	CreateInstance   Unary[instancev1.CreateInstanceRequest, instancev1.Instance]
	RetrieveInstance Unary[instancev1.RetrieveInstanceRequest, instancev1.Instance]
	QueryInstance    Stream[instancev1.QueryInstanceRequest, instancev1.Instance]
	RenewInstance    Unary[instancev1.RenewInstanceRequest, instancev1.Instance]
	DeleteInstance   Unary[instancev1.DeleteInstanceRequest, emptypb.Empty]
}

// challengeStore and instanceManager give the verbs the signatures of the
// generated handlers.
type (
	challengeStore  struct{ edge }
	instanceManager struct{ edge }
)

func (s challengeStore) CreateChallenge(
	ctx context.Context, req *challengev1.CreateChallengeRequest,
) (*challengev1.Challenge, error) {
	return unary(ctx, s.edge, s.verbs.CreateChallenge, req)
}

func (s challengeStore) RetrieveChallenge(
	ctx context.Context, req *challengev1.RetrieveChallengeRequest,
) (*challengev1.Challenge, error) {
	return unary(ctx, s.edge, s.verbs.RetrieveChallenge, req)
}

func (s challengeStore) QueryChallenge(
	ctx context.Context, req *emptypb.Empty, out *connect.ServerStream[challengev1.Challenge],
) error {
	return stream(ctx, s.edge, s.verbs.QueryChallenge, req, out)
}

func (s challengeStore) UpdateChallenge(
	ctx context.Context, req *challengev1.UpdateChallengeRequest,
) (*challengev1.Challenge, error) {
	return unary(ctx, s.edge, s.verbs.UpdateChallenge, req)
}

func (s challengeStore) DeleteChallenge(
	ctx context.Context, req *challengev1.DeleteChallengeRequest,
) (*emptypb.Empty, error) {
	return unary(ctx, s.edge, s.verbs.DeleteChallenge, req)
}

func (m instanceManager) CreateInstance(
	ctx context.Context, req *instancev1.CreateInstanceRequest,
) (*instancev1.Instance, error) {
	return unary(ctx, m.edge, m.verbs.CreateInstance, req)
}

func (m instanceManager) RetrieveInstance(
	ctx context.Context, req *instancev1.RetrieveInstanceRequest,
) (*instancev1.Instance, error) {
	return unary(ctx, m.edge, m.verbs.RetrieveInstance, req)
}

func (m instanceManager) QueryInstance(
	ctx context.Context, req *instancev1.QueryInstanceRequest, out *connect.ServerStream[instancev1.Instance],
) error {
	return stream(ctx, m.edge, m.verbs.QueryInstance, req, out)
}

func (m instanceManager) RenewInstance(
	ctx context.Context, req *instancev1.RenewInstanceRequest,
) (*instancev1.Instance, error) {
	return unary(ctx, m.edge, m.verbs.RenewInstance, req)
}

func (m instanceManager) DeleteInstance(
	ctx context.Context, req *instancev1.DeleteInstanceRequest,
) (*emptypb.Empty, error) {
	return unary(ctx, m.edge, m.verbs.DeleteInstance, req)
}
