package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

var update = flag.Bool("update", false, "write the golden files")

func catalogue() map[string]error {
	cause := errors.New("secret cause")
	minimum, maximum, three, two := int64(-1), int64(-3), int64(3), int64(2)
	return map[string]error{
		"challenge_exists":        ctf.ChallengeExists("7"),
		"challenge_not_found":     ctf.ChallengeNotFound("7"),
		"challenge_expired":       ctf.ChallengeExpired("7"),
		"challenge_no_renewal":    ctf.ChallengeNoRenewal("7"),
		"pooler_negative":         ctf.CheckPool(&minimum, &maximum),
		"pooler_inverted":         ctf.CheckPool(&three, &two),
		"pooler_only_max":         ctf.CheckPool(nil, &maximum),
		"invalid_update_mask":     ctf.InvalidUpdateMask("timeout,foo", `"foo" can't be updated`),
		"instance_exists":         ctf.InstanceExists("7", "3"),
		"instance_not_found":      ctf.InstanceNotFound("7", "3"),
		"instance_expired":        ctf.InstanceExpired("7", "3"),
		"instance_deleted":        ctf.InstanceDeleted("7", "3"),
		"invalid_field":           ctf.InvalidField("timeout", "must be a valid duration"),
		"reference_malformed":     ctf.ReferenceMalformed("::", errors.New("invalid reference")),
		"reference_not_found":     ctf.ReferenceNotFound("localhost/a:b", cause),
		"registry_unreachable":    ctf.RegistryUnreachable("localhost/a:b", cause),
		"registry_denied":         ctf.RegistryDenied("localhost/a:b", cause),
		"registry_failed":         ctf.RegistryFailed("localhost/a:b", cause),
		"scenario_mismatch":       ctf.ScenarioMismatch("localhost/a:b", "unsupported runtime: python", cause),
		"scenario_preprocessing":  ctf.ScenarioPreprocessing("localhost/a:b", "abc", "main.go:3: undefined: x", cause),
		"deployment_failed":       ctf.DeploymentFailed("the program exited with 1", cause),
		"store_unavailable":       ctf.StoreUnavailable(cause),
		"function_unavailable":    ctf.FunctionUnavailable("create-instance", "can't be reached", cause),
		"token_required":          ctf.TokenRequired(),
		"limit_reached":           ctf.LimitReached("10 programs run already"),
		"busy":                    ctf.Busy("500 creates wait already", 7*time.Second),
		"not_an_error_of_ours":    cause,
		"wrapped_error_of_ours":   errors.Join(cause, ctf.ChallengeNotFound("7")),
		"internal_error_of_a_ctf": &ctf.Error{Kind: ctf.Internal, Reason: ctf.ReasonInternal, Message: "An internal error occurred.", Err: cause},
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for name, err := range catalogue() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := describe(t, err)
			if bytes.Contains(got, []byte("secret")) {
				t.Errorf("the cause is shown: %s", got)
			}
			golden(t, filepath.Join("testdata", "errors", name+".json"), got)
		})
	}
}

// describe renders what a caller reads, as REST does.
func describe(t *testing.T, err error) []byte {
	t.Helper()
	message, details := api.Describe(err)
	status := &spb.Status{Message: message}
	for _, d := range details {
		packed, err := anypb.New(d)
		if err != nil {
			t.Fatal(err)
		}
		status.Details = append(status.Details, packed)
	}
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact(t, raw), "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// compact takes out the spaces that protojson puts in at random.
func compact(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestDescribeKeepsTextsShort(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"long":         strings.Repeat("x", 1<<20),
		"long unicode": strings.Repeat("é☃", 1<<16) + "end",
		"no UTF-8":     strings.Repeat("\xff", 1<<12),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, err := range []error{
				ctf.ScenarioMismatch(text, text, nil), ctf.DeploymentFailed(text, nil), ctf.InvalidUpdateMask(text, text),
			} {
				got := describe(t, err)
				if len(got) > 12<<10 || !utf8.Valid(got) {
					t.Errorf("%d bytes, valid UTF-8: %t", len(got), utf8.Valid(got))
				}
			}
		})
	}
	message, _ := api.Describe(ctf.DeploymentFailed("first"+strings.Repeat("é", 1<<12)+"last", nil))
	if !strings.Contains(message, "first") || !strings.Contains(message, "last") || len(message) > 3000 {
		t.Errorf("both ends must stay: %q", message)
	}
}
