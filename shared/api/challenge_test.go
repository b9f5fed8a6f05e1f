package api_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func operator() ctf.Caller { return ctf.Caller{Tenant: ctf.DefaultTenant, Role: ctf.RoleOperator} }

func date(t *testing.T, text string) *time.Time {
	t.Helper()
	d, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return &d
}

func TestNewChallenge(t *testing.T) {
	t.Parallel()
	timeout := 90 * time.Second
	got, err := api.NewChallenge(operator(), &challengev1.CreateChallengeRequest{
		Id: "a/b ☃", Scenario: "localhost/a:b", Timeout: durationpb.New(timeout),
		Until:      timestamppb.New(*date(t, "2222-12-22T22:22:22Z")),
		Additional: map[string]string{"k": "v"}, Min: 1, Max: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ctf.Challenge{
		Key:      ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "a/b ☃"},
		Scenario: ctf.Scenario{Reference: "localhost/a:b"},
		Timeout:  &timeout, Until: date(t, "2222-12-22T22:22:22Z"),
		Additional: map[string]string{"k": "v"}, Pool: ctf.Pool{Min: 1, Max: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewChallengeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req    *challengev1.CreateChallengeRequest
		reason ctf.Reason
		field  string
	}{
		"an empty id":         {&challengev1.CreateChallengeRequest{}, ctf.ReasonInvalidArgument, "id"},
		"a long id":           {&challengev1.CreateChallengeRequest{Id: strings.Repeat("x", 10<<10)}, ctf.ReasonInvalidArgument, "id"},
		"a control character": {&challengev1.CreateChallengeRequest{Id: "a\x00b"}, ctf.ReasonInvalidArgument, "id"},
		"bounds before the id": {
			&challengev1.CreateChallengeRequest{Min: 3, Max: 2}, ctf.ReasonPoolerOutOfBounds, "min",
		},
		"a timeout beyond 292 years": {
			&challengev1.CreateChallengeRequest{Id: "1", Timeout: &durationpb.Duration{Seconds: 9_223_372_037}},
			ctf.ReasonInvalidArgument, "timeout",
		},
		"a timeout of two signs": {
			&challengev1.CreateChallengeRequest{Id: "1", Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}},
			ctf.ReasonInvalidArgument, "timeout",
		},
		"a date after the year 9999": {
			&challengev1.CreateChallengeRequest{Id: "1", Until: &timestamppb.Timestamp{Seconds: 253402300800}},
			ctf.ReasonInvalidArgument, "until",
		},
		"a date with negative nanoseconds": {
			&challengev1.CreateChallengeRequest{Id: "1", Until: &timestamppb.Timestamp{Nanos: -1}},
			ctf.ReasonInvalidArgument, "until",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := api.NewChallenge(operator(), c.req)
			checkInvalid(t, err, c.reason, c.field)
		})
	}
}

func TestNewChallengeTakesAnyDates(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, -time.Second, math.MaxInt64, math.MinInt64} {
		got, err := api.NewChallenge(operator(), &challengev1.CreateChallengeRequest{
			Id: "1", Timeout: durationpb.New(timeout), Until: timestamppb.New(*date(t, "0001-01-01T00:00:00Z")),
		})
		if err != nil || *got.Timeout != timeout {
			t.Errorf("%s: %v, %v", timeout, got.Timeout, err)
		}
	}
}

func checkInvalid(t *testing.T, err error, reason ctf.Reason, field string) {
	t.Helper()
	e, ok := errors.AsType[*ctf.Error](err)
	if !ok || e.Kind != ctf.Invalid || e.Reason != reason || len(e.Violations) == 0 || e.Violations[0].Field != field {
		t.Errorf("got %v, want reason %s on field %s", err, reason, field)
	}
}

func TestNewChallengeChange(t *testing.T) {
	t.Parallel()
	everything := func(paths ...string) *challengev1.UpdateChallengeRequest {
		return &challengev1.UpdateChallengeRequest{
			Id: "1", Scenario: new("localhost/a:b"), Timeout: durationpb.New(time.Minute),
			Until:      timestamppb.New(*date(t, "2222-12-22T22:22:22Z")),
			UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
			Additional: map[string]string{"k": "v"}, Min: 1, Max: 2,
			UpdateStrategy: challengev1.UpdateStrategy_recreate.Enum(),
		}
	}
	minute := time.Minute
	unmasked := everything()
	unmasked.UpdateMask = nil
	for name, c := range map[string]struct {
		req  *challengev1.UpdateChallengeRequest
		want ctf.ChallengeChange
	}{
		"no mask":    {unmasked, ctf.ChallengeChange{Strategy: ctf.Recreate}},
		"empty mask": {everything(), ctf.ChallengeChange{Strategy: ctf.Recreate}},
		"names that are no part of a challenge": {
			everything("id", "update_strategy", "update_mask"), ctf.ChallengeChange{Strategy: ctf.Recreate},
		},
		"one name": {
			everything("timeout"), ctf.ChallengeChange{SetTimeout: true, Timeout: &minute, Strategy: ctf.Recreate},
		},
		"all names": {
			everything("scenario", "timeout", "until", "additional", "min", "max"),
			ctf.ChallengeChange{
				SetScenario: true, SetTimeout: true, SetUntil: true, SetAdditional: true, SetMin: true, SetMax: true,
				Scenario: ctf.Scenario{Reference: "localhost/a:b"}, Timeout: &minute,
				Until: date(t, "2222-12-22T22:22:22Z"), Additional: map[string]string{"k": "v"},
				Pool: ctf.Pool{Min: 1, Max: 2}, Strategy: ctf.Recreate,
			},
		},
		"names of what is not set": {
			&challengev1.UpdateChallengeRequest{Id: "1", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{
				"scenario", "timeout", "until", "additional", "min", "max",
			}}},
			ctf.ChallengeChange{
				SetScenario: true, SetTimeout: true, SetUntil: true, SetAdditional: true, SetMin: true, SetMax: true,
				Strategy: ctf.InPlace,
			},
		},
		"max alone may be below min": {
			&challengev1.UpdateChallengeRequest{Id: "1", Min: 5, Max: 1, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"max"}}},
			ctf.ChallengeChange{SetMax: true, Pool: ctf.Pool{Max: 1}, Strategy: ctf.InPlace},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, got, err := api.NewChallengeChange(operator(), c.req)
			if err != nil || key != operator().Challenge("1") {
				t.Fatal(key, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewChallengeChangeRefuses(t *testing.T) {
	t.Parallel()
	seven := challengev1.UpdateStrategy(7)
	masked := func(paths ...string) *challengev1.UpdateChallengeRequest {
		return &challengev1.UpdateChallengeRequest{
			Min: -1, UpdateStrategy: &seven, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		}
	}
	bad := masked("timeout")
	bad.Id, bad.UpdateStrategy, bad.Timeout = "1", nil, &durationpb.Duration{Nanos: 1e9}
	strategy := masked()
	strategy.Id = "1"
	for name, c := range map[string]struct {
		req    *challengev1.UpdateChallengeRequest
		reason ctf.Reason
		field  string
	}{
		"a mask, first of all":      {masked("min", "foo"), ctf.ReasonInvalidUpdateMask, "update-mask"},
		"a part of a field":         {masked("timeout.seconds"), ctf.ReasonInvalidUpdateMask, "update-mask"},
		"a star":                    {masked("*"), ctf.ReasonInvalidUpdateMask, "update-mask"},
		"bounds, second":            {masked("min"), ctf.ReasonPoolerOutOfBounds, "min"},
		"an empty id":               {masked("max"), ctf.ReasonInvalidArgument, "id"},
		"an unknown strategy":       {strategy, ctf.ReasonInvalidArgument, "update_strategy"},
		"a timeout that is not one": {bad, ctf.ReasonInvalidArgument, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := api.NewChallengeChange(operator(), c.req)
			checkInvalid(t, err, c.reason, c.field)
		})
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	t.Run("minimal", func(t *testing.T) {
		t.Parallel()
		got := render(t, api.Challenge(ctf.Challenge{Key: operator().Challenge("1")}, nil))
		want := `{"id":"1","scenario":"","timeout":null,"until":null,"instances":[],"additional":{},"min":"0","max":"0"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		timeout := 1500 * time.Millisecond
		got := api.Challenge(ctf.Challenge{
			Key: operator().Challenge("1"), Scenario: ctf.Scenario{Reference: "localhost/a:b", Digest: "sha256:0"},
			Timeout: &timeout, Until: date(t, "2222-12-22T22:22:22Z"),
			Additional: map[string]string{"k": "v"}, Pool: ctf.Pool{Min: 1, Max: 2},
		}, []ctf.Instance{{Source: "b"}, {Source: "a"}})
		if got.Instances[0].SourceId != "a" || got.Instances[1].SourceId != "b" {
			t.Errorf("not sorted: %v", got.Instances)
		}
		got.Instances = nil
		want := `{"id":"1","scenario":"localhost/a:b","timeout":"1.500s","until":"2222-12-22T22:22:22Z",` +
			`"instances":[],"additional":{"k":"v"},"min":"1","max":"2"}`
		if got := render(t, got); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// render marshals like the gateway does.
func render(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(compact(t, raw))
}

func FuzzNewChallenge(f *testing.F) {
	f.Add(`{"id":"1","scenario":"a/b:1","timeout":"600s","until":"2030-01-01T00:00:00Z","additional":{"a":"b"},"min":"1","max":"2"}`)
	f.Add(`{"id":"a/\u0000","timeout":"-315576000000.999999999s","until":"0001-01-01T00:00:00Z","min":"-1"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var req challengev1.CreateChallengeRequest
		if protojson.Unmarshal([]byte(text), &req) != nil {
			return
		}
		challenge, err := api.NewChallenge(operator(), &req)
		if err != nil {
			if e, ok := errors.AsType[*ctf.Error](err); !ok || e.Kind != ctf.Invalid {
				t.Errorf("not a kind Invalid error: %v", err)
			}
			return
		}
		if diff := cmp.Diff(req.GetTimeout(), api.Challenge(challenge, nil).GetTimeout(), protocmp.Transform()); diff != "" {
			t.Errorf("the timeout does not come back:\n%s", diff)
		}
		if diff := cmp.Diff(req.GetUntil(), api.Challenge(challenge, nil).GetUntil(), protocmp.Transform()); diff != "" {
			t.Errorf("the end does not come back:\n%s", diff)
		}
	})
}

func FuzzNewReservation(f *testing.F) {
	f.Add(`{"challengeId":"1","sourceId":"2","additional":{"a":"b"}}`, "key")
	f.Add(`{"challengeId":"","sourceId":"\n"}`, "\xff")
	f.Fuzz(func(t *testing.T, text, key string) {
		var req instancev1.CreateInstanceRequest
		if protojson.Unmarshal([]byte(text), &req) != nil {
			return
		}
		ctx, err := api.WithIdempotencyKey(t.Context(), key)
		if err != nil {
			return
		}
		got, err := api.NewReservation(ctx, operator(), &req)
		if err != nil {
			if e, ok := errors.AsType[*ctf.Error](err); !ok || e.Kind != ctf.Invalid {
				t.Errorf("not a kind Invalid error: %v", err)
			}
			return
		}
		if got.Source.Validate() != nil || got.Challenge.ID.Validate() != nil || got.IdempotencyKey != key {
			t.Errorf("%s with the key %q is %+v", text, key, got)
		}
	})
}

func FuzzNewChallengeChange(f *testing.F) {
	f.Add(`{"id":"1","scenario":"a","updateMask":"scenario,timeout","timeout":"1.5s","updateStrategy":7}`)
	f.Add(`{"id":"","min":-1,"max":"9223372036854775807","updateMask":"min,max","until":"9999-12-31T23:59:59Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var req challengev1.UpdateChallengeRequest
		if protojson.Unmarshal([]byte(text), &req) != nil {
			return
		}
		before := proto.Clone(&req)
		_, change, err := api.NewChallengeChange(operator(), &req)
		if diff := cmp.Diff(before, &req, protocmp.Transform()); diff != "" {
			t.Errorf("the request was changed:\n%s", diff)
		}
		if err != nil {
			if e, ok := errors.AsType[*ctf.Error](err); !ok || e.Kind != ctf.Invalid {
				t.Errorf("not a kind Invalid error: %v", err)
			}
			return
		}
		if change.SetTimeout && (change.Timeout == nil) != (req.Timeout == nil) {
			t.Errorf("timeout is %v, asked for %v", change.Timeout, req.Timeout)
		}
	})
}
