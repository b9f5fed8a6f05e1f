package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/api"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

func TestNewReservation(t *testing.T) {
	t.Parallel()
	ctx, err := api.WithIdempotencyKey(t.Context(), "once")
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.NewReservation(ctx, operator(), &instancev1.CreateInstanceRequest{
		ChallengeId: "1", SourceId: "2", Additional: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ctf.ReserveRequest{
		Challenge: operator().Challenge("1"), Source: "2",
		Additional: map[string]string{"k": "v"}, IdempotencyKey: "once",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewReservationRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req   *instancev1.CreateInstanceRequest
		field string
	}{
		"no challenge":   {&instancev1.CreateInstanceRequest{SourceId: "2"}, "challenge_id"},
		"no source":      {&instancev1.CreateInstanceRequest{ChallengeId: "1"}, "source_id"},
		"a long source":  {&instancev1.CreateInstanceRequest{ChallengeId: "1", SourceId: strings.Repeat("x", 257)}, "source_id"},
		"a line feed":    {&instancev1.CreateInstanceRequest{ChallengeId: "1\n", SourceId: "2"}, "challenge_id"},
		"a broken UTF-8": {&instancev1.CreateInstanceRequest{ChallengeId: "\xff", SourceId: "2"}, "challenge_id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := api.NewReservation(t.Context(), operator(), c.req)
			checkInvalid(t, err, ctf.ReasonInvalidArgument, c.field)
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	if got := api.IdempotencyKey(t.Context()); got != "" {
		t.Errorf("a bare context has %q", got)
	}
	ctx, err := api.WithIdempotencyKey(t.Context(), strings.Repeat("k", 256))
	if err != nil || len(api.IdempotencyKey(ctx)) != 256 {
		t.Errorf("256 bytes: %v", err)
	}
	_, err = api.WithIdempotencyKey(t.Context(), strings.Repeat("k", 257))
	checkInvalid(t, err, ctf.ReasonInvalidArgument, "Idempotency-Key")
}

func TestInstance(t *testing.T) {
	t.Parallel()
	instance := ctf.Instance{
		Key:    ctf.InstanceKey{Challenge: operator().Challenge("7"), Identity: "0123456789abcdef"},
		Source: "3", Since: *date(t, "2026-01-02T03:04:05.678901234Z"), LastRenew: *date(t, "2026-01-02T03:04:05Z"),
		ConnectionInfo: "http://x",
	}
	const head = `{"challengeId":"7","sourceId":"3","since":"2026-01-02T03:04:05.678901234Z","lastRenew":"2026-01-02T03:04:05Z",`
	for name, c := range map[string]struct {
		change func(*ctf.Instance)
		want   string
	}{
		"no end and no flag": {
			func(*ctf.Instance) {}, `"connectionInfo":"http://x","additional":{},"flags":[]}`,
		},
		"an end and one flag": {
			func(i *ctf.Instance) { i.Flags, i.Until = []string{"F{1}"}, date(t, "2026-01-02T03:14:05.700Z") },
			`"until":"2026-01-02T03:14:05.700Z","connectionInfo":"http://x","flag":"F{1}","additional":{},"flags":["F{1}"]}`,
		},
		"two flags and settings": {
			func(i *ctf.Instance) { i.Flags, i.Additional = []string{"F{1}", "F{2}"}, map[string]string{"k": "v"} },
			`"connectionInfo":"http://x","additional":{"k":"v"},"flags":["F{1}","F{2}"]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := instance
			c.change(&i)
			if got := render(t, api.Instance(i)); got != head+c.want {
				t.Errorf("got  %s\nwant %s", got, head+c.want)
			}
		})
	}
}
