package apitest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

func transportRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A01_one_port":            onePort,
		"A02_grpc_web":            grpcWeb,
		"A03_json_rules":          jsonRules,
		"A04_optional_fields":     optionalFields,
		"A05_lenient_input":       lenientInput,
		"A06_stream_framing":      streamFraming,
		"A07_health_check":        healthCheck,
		"A08_swagger":             swagger,
		"A09_error_bodies":        errorBodies,
		"A09_hostile_ids":         hostileIDs,
		"A09_errors_over_grpc":    grpcErrors,
		"A28_idempotency_key":     idempotencyKey,
		"A12_unknown_enum_number": unknownEnum,
	}
}

func onePort(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	stream, err := challengev1.NewChallengeStoreClient(s.way).QueryChallenge(t.Context(), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for {
		c, err := stream.Recv()
		if err != nil {
			break
		}
		found = found || c.GetId() == id
	}
	if !found {
		t.Error("not among the challenges over gRPC")
	}
	for _, c := range s.call(t, http.MethodGet, "/api/v1/challenge", nil).want(t, http.StatusOK).results(t) {
		if c["id"] == id {
			return
		}
	}
	t.Error("not among the challenges over REST")
}

func grpcWeb(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	client := challengev1connect.NewChallengeStoreClient(s.client, s.target.BaseURL, connect.WithGRPCWeb())
	got, err := client.RetrieveChallenge(t.Context(), &challengev1.RetrieveChallengeRequest{Id: id})
	if err != nil || got.GetId() != id {
		t.Errorf("got %v, %v", got, err)
	}
}

func jsonRules(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	got := s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK)
	for key, want := range map[string]string{
		"timeout": `null`, "until": `null`, "min": `"0"`, "max": `"0"`, "instances": `[]`, "additional": `{}`,
	} {
		value, ok := got.body[key]
		raw, err := json.Marshal(value)
		if err != nil || !ok || string(raw) != want {
			t.Errorf("%s is %s, want %s", key, raw, want)
		}
	}
}

func optionalFields(t *testing.T, s *suite) {
	for flags, want := range map[string]int{"": 0, "F{1}": 1, "F{1},F{2}": 2} {
		additional := object{}
		if flags != "" {
			additional["flags"] = flags
		}
		id := s.challenge(t, object{"additional": additional})
		got := s.create(t, id, "1").want(t, http.StatusOK)
		list, ok := got.body["flags"].([]any)
		if !ok || len(list) != want {
			t.Errorf("flags %q: %s", flags, got.raw)
		}
		if _, ok := got.body["flag"]; ok != (want == 1) {
			t.Errorf("flags %q: flag is there: %t", flags, ok)
		}
		if _, ok := got.body["until"]; ok {
			t.Errorf("an instance without end has an end: %s", got.raw)
		}
	}
}

func lenientInput(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	s.call(t, http.MethodPost, "/api/v1/instance",
		object{"challenge_id": id, "sourceId": "1", "foo": object{"bar": 1}}).want(t, http.StatusOK)
	s.call(t, http.MethodPatch, challengePath(id), object{"updateMask": "min,max", "min": "0", "max": 3}).want(t, http.StatusOK)
	got := s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK)
	if got.body["max"] != "3" {
		t.Errorf("max is %v", got.body["max"])
	}
}

func streamFraming(t *testing.T, s *suite) {
	source := s.id()
	path := "/api/v1/instance?sourceId=" + source
	if got := s.call(t, http.MethodGet, path, nil).want(t, http.StatusOK); got.raw != "" {
		t.Errorf("an empty stream is %q", got.raw)
	}
	for range 3 {
		s.create(t, s.challenge(t, nil), source).want(t, http.StatusOK)
	}
	got := s.call(t, http.MethodGet, path, nil).want(t, http.StatusOK)
	if lines := strings.Count(got.raw, "\n"); lines != 3 || len(got.results(t)) != 3 {
		t.Errorf("%d lines: %q", lines, got.raw)
	}
}

func healthCheck(t *testing.T, s *suite) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
		s.call(t, method, "/healthcheck", nil).want(t, http.StatusOK)
	}
	if got := s.call(t, http.MethodGet, "/healthcheck", nil); got.body["status"] != "OK" {
		t.Errorf("got %s", got.raw)
	}
}

func swagger(t *testing.T, s *suite) {
	if !s.target.Swagger {
		s.call(t, http.MethodGet, "/swagger/swagger.json", nil).want(t, http.StatusNotFound)
		return
	}
	got := s.call(t, http.MethodGet, "/swagger/swagger.json", nil).want(t, http.StatusOK)
	for operation, want := range map[string]int{`"operationId": "ChallengeStore_`: 5, `"operationId": "InstanceManager_`: 5} {
		if n := strings.Count(got.raw, operation); n != want {
			t.Errorf("%d of %s", n, operation)
		}
	}
	s.call(t, http.MethodGet, "/swagger/", nil).want(t, http.StatusOK)
}

func errorBodies(t *testing.T, s *suite) {
	for name, c := range map[string]struct {
		method, path string
		body         any
		code         int
	}{
		"unknown path":  {http.MethodGet, "/api/v1/nothing", nil, 404},
		"wrong method":  {http.MethodPut, "/api/v1/challenge/1", nil, 501},
		"not JSON":      {http.MethodPost, "/api/v1/challenge", "{", 400},
		"wrong type":    {http.MethodPost, "/api/v1/challenge", `{"min":{}}`, 400},
		"bad duration":  {http.MethodPost, "/api/v1/challenge", `{"timeout":"ten"}`, 400},
		"too long":      {http.MethodPost, "/api/v1/challenge", object{"id": "1", "scenario": strings.Repeat("x", 10<<20)}, 400},
		"no id":         {http.MethodPost, "/api/v1/challenge", object{"scenario": s.scenarios.plain}, 400},
		"no ids":        {http.MethodPost, "/api/v1/instance", nil, 400},
		"no such thing": {http.MethodGet, challengePath(s.id()), nil, 404},
		"a mask in snake": {
			http.MethodPatch, challengePath("1"), object{"updateMask": "update_strategy"}, 400,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.call(t, c.method, c.path, c.body).want(t, c.code)
			_, code := got.body["code"].(float64)
			_, message := got.body["message"].(string)
			_, details := got.body["details"].([]any)
			if !code || !message || !details {
				t.Errorf("got %s", got.raw)
			}
		})
	}
}

func hostileIDs(t *testing.T, s *suite) {
	for _, suffix := range []string{"/", "a/b", "é☃", "100%", "a b", "..", "%2F", "{}", "*", `"'`, ":", "a:b", "?#"} {
		t.Run("taken "+suffix, func(t *testing.T) {
			id, source := s.id()+suffix, "source"+suffix
			s.challenge(t, object{"id": id})
			s.create(t, id, source).want(t, http.StatusOK)
			if got := s.retrieve(t, id, source).want(t, http.StatusOK); got.body["challengeId"] != id || got.body["sourceId"] != source {
				t.Errorf("got %s", got.raw)
			}
			s.call(t, http.MethodDelete, instancePath(id, source), nil).want(t, http.StatusOK)
		})
	}
	for name, id := range map[string]string{"empty": "", "10 kB": strings.Repeat("x", 10<<10), "NUL": "a\x00", "line feed": "a\nb"} {
		t.Run("refused "+name, func(t *testing.T) {
			s.call(t, http.MethodPost, "/api/v1/challenge", object{"id": id, "scenario": s.scenarios.plain}).
				wantError(t, http.StatusBadRequest, "INVALID_ARGUMENT")
			s.create(t, "1", id).wantError(t, http.StatusBadRequest, "INVALID_ARGUMENT")
			s.create(t, id, "1").wantError(t, http.StatusBadRequest, "INVALID_ARGUMENT")
		})
	}
}

func grpcErrors(t *testing.T, s *suite) {
	_, err := instancev1.NewInstanceManagerClient(s.way).RetrieveInstance(t.Context(),
		&instancev1.RetrieveInstanceRequest{ChallengeId: s.id(), SourceId: "3"})
	got := status.Convert(err)
	if got.Code() != codes.NotFound || got.Message() != "Instance not found." || len(got.Details()) == 0 {
		t.Fatalf("got %v", err)
	}
	info, ok := got.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetReason() != "INSTANCE_NOT_FOUND" || info.GetDomain() != "github.com/ctfer-io/chall-manager" {
		t.Errorf("the first detail is %v", got.Details()[0])
	}
}

func unknownEnum(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	s.update(t, id, "timeout", object{"updateStrategy": 7}).wantError(t, http.StatusBadRequest, "INVALID_ARGUMENT")
	s.update(t, id, "timeout", object{"updateStrategy": "burn_down"}).want(t, http.StatusOK)
}

// idempotencyKey: the same key gets the same instance, also while the first
// call is still at it; another key gets the contract's conflict.
func idempotencyKey(t *testing.T, s *suite) {
	id := s.challenge(t, object{"additional": object{"slow": "1s"}})
	body := object{"challengeId": id, "sourceId": "1"}
	const calls = 4
	answers, failed := make(chan answer, calls), make(chan error, calls)
	for range calls {
		go func() {
			a, err := s.try(http.MethodPost, "/api/v1/instance", body, "Idempotency-Key", "once")
			answers <- a
			failed <- err
		}()
	}
	var errs []error
	identities := map[string]bool{}
	for range calls {
		identities[(<-answers).want(t, http.StatusOK).given(t).Identity] = true
		errs = append(errs, <-failed)
	}
	if err := errors.Join(errs...); err != nil || len(identities) != 1 {
		t.Errorf("%d instances, %v", len(identities), err)
	}
	again, err := s.try(http.MethodPost, "/api/v1/instance", body, "Idempotency-Key", "twice")
	if err != nil {
		t.Fatal(err)
	}
	again.wantError(t, http.StatusConflict, "INSTANCE_ALREADY_EXISTS")
}
