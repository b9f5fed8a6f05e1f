//go:build cluster

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

const (
	lasts = 600 * time.Second
	round = "round"
)

// A grpcUser speaks gRPC.
type grpcUser struct {
	challenges challengev1.ChallengeStoreClient
	instances  instancev1.InstanceManagerClient
	scenario   string
}

func (u *grpcUser) verbs(challenge, source string) map[string]call {
	return map[string]call{
		"create-challenge": func(ctx context.Context) error {
			_, err := u.challenges.CreateChallenge(ctx, &challengev1.CreateChallengeRequest{Id: challenge, Scenario: u.scenario, Timeout: durationpb.New(lasts)})
			return err
		},
		"retrieve-challenge": func(ctx context.Context) error {
			_, err := u.challenges.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: challenge})
			return err
		},
		"query-challenge": func(ctx context.Context) error {
			stream, err := u.challenges.QueryChallenge(ctx, &emptypb.Empty{})
			if err != nil {
				return err
			}
			return find(stream, func(c *challengev1.Challenge) bool { return c.GetId() == challenge })
		},
		"update-challenge": func(ctx context.Context) error {
			_, err := u.challenges.UpdateChallenge(ctx, &challengev1.UpdateChallengeRequest{
				Id: challenge, Additional: map[string]string{round: "2"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"additional"}},
			})
			return err
		},
		"delete-challenge": func(ctx context.Context) error {
			_, err := u.challenges.DeleteChallenge(ctx, &challengev1.DeleteChallengeRequest{Id: challenge})
			return err
		},
		"create-instance": func(ctx context.Context) error {
			_, err := u.instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: challenge, SourceId: source})
			return err
		},
		"retrieve-instance": func(ctx context.Context) error {
			_, err := u.instances.RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{ChallengeId: challenge, SourceId: source})
			return err
		},
		"query-instance": func(ctx context.Context) error {
			stream, err := u.instances.QueryInstance(ctx, &instancev1.QueryInstanceRequest{SourceId: source})
			if err != nil {
				return err
			}
			return find(stream, func(i *instancev1.Instance) bool { return i.GetChallengeId() == challenge })
		},
		"renew-instance": func(ctx context.Context) error {
			_, err := u.instances.RenewInstance(ctx, &instancev1.RenewInstanceRequest{ChallengeId: challenge, SourceId: source})
			return err
		},
		"delete-instance": func(ctx context.Context) error {
			_, err := u.instances.DeleteInstance(ctx, &instancev1.DeleteInstanceRequest{ChallengeId: challenge, SourceId: source})
			return err
		},
	}
}

// find reads a stream to its end; what is looked for must be in it.
func find[T any](stream grpc.ServerStreamingClient[T], is func(*T) bool) error {
	for found := false; ; {
		item, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && found:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("not among the answers")
		case err != nil:
			return err
		}
		found = found || is(item)
	}
}

// A restUser speaks REST.
type restUser struct {
	client         *http.Client
	base, scenario string
	trace          string // that its calls are part of, if it is not empty
}

func (u *restUser) verbs(challenge, source string) map[string]call {
	type object = map[string]any
	ask := func(method, path string, body any) call {
		return func(ctx context.Context) error { return u.call(ctx, method, path, body, `"`+challenge+`"`) }
	}
	one, instance := "/api/v1/challenge/"+challenge, "/api/v1/instance/"+challenge+"/"+source
	return map[string]call{
		"create-challenge":   ask(http.MethodPost, "/api/v1/challenge", object{"id": challenge, "scenario": u.scenario, "timeout": "600s"}),
		"retrieve-challenge": ask(http.MethodGet, one, nil),
		"query-challenge":    ask(http.MethodGet, "/api/v1/challenge", nil),
		"update-challenge":   ask(http.MethodPatch, one, object{"additional": object{round: "2"}, "updateMask": "additional"}),
		"delete-challenge":   func(ctx context.Context) error { return u.call(ctx, http.MethodDelete, one, nil, "") },
		"create-instance":    ask(http.MethodPost, "/api/v1/instance", object{"challengeId": challenge, "sourceId": source}),
		"retrieve-instance":  ask(http.MethodGet, instance, nil),
		"query-instance":     ask(http.MethodGet, "/api/v1/instance?sourceId="+source, nil),
		"renew-instance":     ask(http.MethodPatch, instance, object{}),
		"delete-instance":    func(ctx context.Context) error { return u.call(ctx, http.MethodDelete, instance, nil, "") },
	}
}

// call sends a request once; the answer must be one, and have a text in it.
func (u *restUser) call(ctx context.Context, method, path string, body any, in string) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	// Go sends a request again whose connection breaks, if it has no body or knows
	// how to get it again. This one it does not.
	request, err := http.NewRequestWithContext(ctx, method, u.base+path, io.NopCloser(bytes.NewReader(sent)))
	if err != nil {
		return err
	}
	request.ContentLength = int64(len(sent))
	request.Header.Set("Content-Type", "application/json")
	if u.trace != "" {
		request.Header.Set("Traceparent", traceparent(u.trace))
	}
	response, err := u.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	// A stream that breaks off says so in its last line.
	if text := string(raw); response.StatusCode != http.StatusOK || strings.Contains(text, `{"error":`) || !strings.Contains(text, in) {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return nil
}
