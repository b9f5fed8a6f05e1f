package gateway_test

import (
	"context"
	"errors"

	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// echo are verbs that answer with what they were asked for. They refuse what
// has the id "missing".
func echo() serve.Verbs {
	challenge := func(id string) (*challengev1.Challenge, error) {
		if id == "missing" {
			return nil, ctf.ChallengeNotFound("missing")
		}
		return &challengev1.Challenge{Id: id}, nil
	}
	instance := func(id, source string) (*instancev1.Instance, error) {
		if id == "missing" {
			return nil, ctf.InstanceNotFound("missing", ctf.SourceID(source))
		}
		return &instancev1.Instance{ChallengeId: id, SourceId: source}, nil
	}
	return serve.Verbs{
		CreateChallenge: func(_ context.Context, _ ctf.Caller, r *challengev1.CreateChallengeRequest) (*challengev1.Challenge, error) {
			return challenge(r.Id)
		},
		RetrieveChallenge: func(_ context.Context, _ ctf.Caller, r *challengev1.RetrieveChallengeRequest) (*challengev1.Challenge, error) {
			return challenge(r.Id)
		},
		QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
			return errors.Join(send(&challengev1.Challenge{Id: "1"}), send(&challengev1.Challenge{Id: "2"}))
		},
		UpdateChallenge: func(_ context.Context, _ ctf.Caller, r *challengev1.UpdateChallengeRequest) (*challengev1.Challenge, error) {
			return challenge(r.Id)
		},
		DeleteChallenge: func(_ context.Context, _ ctf.Caller, r *challengev1.DeleteChallengeRequest) (*emptypb.Empty, error) {
			_, err := challenge(r.Id)
			return &emptypb.Empty{}, err
		},
		CreateInstance: func(_ context.Context, _ ctf.Caller, r *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			return instance(r.ChallengeId, r.SourceId)
		},
		RetrieveInstance: func(_ context.Context, _ ctf.Caller, r *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			return instance(r.ChallengeId, r.SourceId)
		},
		QueryInstance: func(_ context.Context, _ ctf.Caller, r *instancev1.QueryInstanceRequest, send func(*instancev1.Instance) error) error {
			if r.SourceId == "missing" {
				return ctf.InvalidField("source_id", "is missing")
			}
			return send(&instancev1.Instance{SourceId: r.SourceId})
		},
		RenewInstance: func(_ context.Context, _ ctf.Caller, r *instancev1.RenewInstanceRequest) (*instancev1.Instance, error) {
			return instance(r.ChallengeId, r.SourceId)
		},
		DeleteInstance: func(_ context.Context, _ ctf.Caller, r *instancev1.DeleteInstanceRequest) (*emptypb.Empty, error) {
			_, err := instance(r.ChallengeId, r.SourceId)
			return &emptypb.Empty{}, err
		},
	}
}
