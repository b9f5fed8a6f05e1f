package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mayfly-ctf/mayfly/shared/api"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// serveVerbs serves canned verbs over the real edge and returns the URL.
func serveVerbs(t *testing.T, o serve.Options) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A connection that a client opened and did not use yet is waited for five seconds.
	o.Log, o.DrainFor = slog.New(slog.DiscardHandler), 30*time.Second
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, listener, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}

// mayfly runs a command line and returns its exit code and what it wrote.
func mayfly(t *testing.T, args ...string) (code int, out, diagnostics string) {
	t.Helper()
	var o, d bytes.Buffer
	code = execute(t.Context(), args, &o, &d)
	return code, o.String(), d.String()
}

func team(challenge, source string) *instancev1.Instance {
	return &instancev1.Instance{
		ChallengeId: challenge, SourceId: source, ConnectionInfo: "nc 127.0.0.1 4000", Flags: []string{"FLAG{1}"},
		Since: timestamppb.New(time.Unix(0, 0)), Additional: map[string]string{"level": "hard"},
	}
}

// canned are verbs that know the challenges hello and evil and the source
// team-1.
func canned() serve.Verbs {
	find := func(id string) error {
		if id == "gone" {
			return ctf.ChallengeNotFound("gone")
		}
		return nil
	}
	return serve.Verbs{
		CreateChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.CreateChallengeRequest) (*challengev1.Challenge, error) {
			switch req.GetId() {
			case "taken":
				return nil, ctf.ChallengeExists("taken")
			case "unpushed":
				return nil, ctf.ReferenceNotFound(req.GetScenario(), nil)
			case "broken":
				return nil, ctf.ScenarioPreprocessing(req.GetScenario(), "/dir", "main.go:1: wrong\nmain.go:2: wrong too", nil)
			}
			return &challengev1.Challenge{Id: req.GetId(), Scenario: req.GetScenario(), Min: req.GetMin()}, nil
		},
		RetrieveChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.RetrieveChallengeRequest) (*challengev1.Challenge, error) {
			return &challengev1.Challenge{Id: req.GetId(), Instances: []*instancev1.Instance{team(req.GetId(), "team-1")}}, find(req.GetId())
		},
		QueryChallenge: func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
			return errors.Join(send(&challengev1.Challenge{Id: "zulu"}), send(&challengev1.Challenge{Id: "evil", Scenario: "\x1b[2Jx"}))
		},
		DeleteChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.DeleteChallengeRequest) (*emptypb.Empty, error) {
			return &emptypb.Empty{}, find(req.GetId())
		},
		CreateInstance: func(ctx context.Context, _ ctf.Caller, req *instancev1.CreateInstanceRequest) (*instancev1.Instance, error) {
			if req.GetSourceId() == "team-1" {
				return nil, ctf.InstanceExists("hello", "team-1")
			}
			i := team(req.GetChallengeId(), req.GetSourceId())
			i.Additional = req.GetAdditional()
			i.ConnectionInfo = "key " + api.IdempotencyKey(ctx)
			return i, nil
		},
		RetrieveInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			return team(req.GetChallengeId(), req.GetSourceId()), find(req.GetChallengeId())
		},
		QueryInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.QueryInstanceRequest, send func(*instancev1.Instance) error) error {
			if req.GetSourceId() != "team-1" {
				return nil
			}
			return errors.Join(send(team("b", "team-1")), send(team("a", "team-1")))
		},
		RenewInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.RenewInstanceRequest) (*instancev1.Instance, error) {
			return nil, ctf.ChallengeNoRenewal(ctf.ChallengeID(req.GetChallengeId()))
		},
		DeleteInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.DeleteInstanceRequest) (*emptypb.Empty, error) {
			return nil, ctf.InstanceNotFound(ctf.ChallengeID(req.GetChallengeId()), ctf.SourceID(req.GetSourceId()))
		},
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	url := serveVerbs(t, serve.Options{Verbs: canned()})
	tests := map[string]struct {
		args string
		code int
		out  []string
		err  []string
	}{
		"create challenge":       {"challenge create hello --scenario r/hello:1 --min 2", exitOK, []string{"challenge  hello", "pool       2"}, nil},
		"challenge exists":       {"challenge create taken --scenario r/x:1", exitExists, nil, []string{"already exists", "Challenge taken", "mayfly challenge update"}},
		"scenario not pushed":    {"challenge create unpushed --scenario r/x:1", exitFailed, nil, []string{"Registry does not contain reference.", "scenario: Reference not found.", "mayfly scenario push"}},
		"scenario broken":        {"challenge create broken --scenario r/x:1", exitFailed, nil, []string{"Scenario r/x:1", "  main.go:1: wrong\n  main.go:2: wrong too\n", "correct the scenario"}},
		"no scenario":            {"challenge create hello", exitUsage, nil, []string{"--scenario is missing", "mayfly challenge create --help"}},
		"no id":                  {"challenge create --scenario r/x:1", exitUsage, nil, []string{"accepts 1 arg"}},
		"unknown flag":           {"challenge get hello --colour", exitUsage, nil, []string{"unknown flag"}},
		"unknown noun":           {"chalenge get", exitUsage, nil, []string{"unknown command"}},
		"unknown verb":           {"challenge frobnicate", exitUsage, nil, []string{`unknown command "frobnicate"`}},
		"bad date":               {"challenge create hello --scenario r/x:1 --until tomorrow", exitUsage, nil, []string{"31-12-2030"}},
		"bad timeout":            {"challenge create hello --scenario r/x:1 --timeout long", exitUsage, nil, []string{"invalid duration"}},
		"bad additional":         {"instance create hello team-2 --additional x", exitUsage, nil, []string{"must be key=value"}},
		"bad strategy":           {"challenge update hello --strategy burn-down", exitUsage, nil, []string{"must be one of in-place, blue-green, recreate"}},
		"bad format":             {"challenge list -o yaml", exitUsage, nil, []string{"must be one of table, json"}},
		"set and reset":          {"challenge update hello --timeout 1m --reset-timeout", exitUsage, nil, []string{"timeout"}},
		"update of nothing":      {"challenge update hello", exitUsage, nil, []string{"nothing to change"}},
		"directory, no scenario": {"challenge update hello --dir . --min 1", exitUsage, nil, []string{"--dir needs --scenario"}},
		"user without password":  {"scenario push . r/x:1 --username me", exitUsage, nil, []string{"go together"}},
		"get challenge":          {"challenge get hello", exitOK, []string{"challenge  hello", "team-1", "nc 127.0.0.1 4000"}, nil},
		"challenge not found":    {"challenge get gone", exitNotFound, nil, []string{"Error: Challenge not found.\n", "Challenge gone", "mayfly challenge list"}},
		"list, hostile text":     {"challenge list", exitOK, []string{"CHALLENGE", "evil       \ufffd[2Jx"}, nil},
		"delete challenge":       {"challenge delete hello", exitOK, []string{"challenge hello deleted"}, nil},
		"unimplemented verb":     {"challenge update hello --min 1", exitFailed, nil, []string{"Error:"}},
		"create instance":        {"instance create hello team-2 --additional a=b=c,d --idempotency-key once", exitOK, []string{"source      team-2", "a=b=c,d", "key once"}, nil},
		"instance exists":        {"instance create hello team-1", exitExists, nil, []string{"already exists", "Instance hello/team-1", "mayfly instance get"}},
		"get instance":           {"instance get hello team-1", exitOK, []string{"flag        FLAG{1}", "until       -"}, nil},
		"list instances":         {"instance list team-1", exitOK, []string{"CHALLENGE", "a          team-1"}, nil},
		"no renewal":             {"instance renew hello team-1", exitFailed, nil, []string{"does not accept renewal", "it has no timeout", "--timeout DURATION"}},
		"instance not found":     {"instance delete hello team-9", exitNotFound, nil, []string{"Instance not found.", "Instance hello/team-9"}},
		"help of all":            {"--help", exitOK, []string{"mayfly run", "Exit codes"}, nil},
		"help of a noun":         {"instance", exitOK, []string{"renew"}, nil},
		"completion":             {"completion bash", exitOK, []string{"mayfly"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(test.args)
			if args[0] == "challenge" || args[0] == "instance" {
				args = append(args, "--url", strings.TrimPrefix(url, "http://"))
			}
			code, out, diagnostics := mayfly(t, args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.out {
				if !strings.Contains(out, want) {
					t.Errorf("output lacks %q", want)
				}
			}
			for _, want := range test.err {
				if !strings.Contains(diagnostics, want) {
					t.Errorf("diagnostics lack %q", want)
				}
			}
			if (test.code == exitOK) != (diagnostics == "") {
				t.Error("diagnostics are written if and only if something failed")
			}
			if t.Failed() {
				t.Logf("output:\n%s\ndiagnostics:\n%s", out, diagnostics)
			}
		})
	}
}

func TestClientWritesJSON(t *testing.T) {
	t.Parallel()
	url := serveVerbs(t, serve.Options{Verbs: canned()})
	tests := map[string]struct {
		args []string
		want string
	}{
		"one": {[]string{"instance", "get", "hello", "team-1"}, `{"challengeId":"hello","sourceId":"team-1","since":"1970-01-01T00:00:00Z","lastRenew":null,
			"connectionInfo":"nc 127.0.0.1 4000","flags":["FLAG{1}"],"additional":{"level":"hard"}}`},
		"a list in order": {[]string{"challenge", "list"}, `[
			{"id":"evil","scenario":"\u001b[2Jx","timeout":null,"until":null,"instances":[],"additional":{},"min":"0","max":"0"},
			{"id":"zulu","scenario":"","timeout":null,"until":null,"instances":[],"additional":{},"min":"0","max":"0"}]`},
		"an empty list": {[]string{"instance", "list", "nobody"}, `[]`},
		"a deletion":    {[]string{"challenge", "delete", "hello"}, `{}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, diagnostics := mayfly(t, append(test.args, "-o", "json", "--url", url)...)
			if code != exitOK {
				t.Fatalf("exit code %d: %s", code, diagnostics)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal([]byte(out), &got), json.Unmarshal([]byte(test.want), &want)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChallengeUpdateNamesWhatChanges(t *testing.T) {
	t.Parallel()
	requests := make(chan *challengev1.UpdateChallengeRequest, 1)
	url := serveVerbs(t, serve.Options{Verbs: serve.Verbs{
		UpdateChallenge: func(_ context.Context, _ ctf.Caller, req *challengev1.UpdateChallengeRequest) (*challengev1.Challenge, error) {
			requests <- req
			return &challengev1.Challenge{Id: req.GetId()}, nil
		},
	}})
	ref, green := "r/x:2", challengev1.UpdateStrategy_blue_green
	tests := map[string]struct {
		args []string
		want *challengev1.UpdateChallengeRequest
	}{
		"everything": {
			[]string{"--scenario", ref, "--timeout", "90m", "--until", "31-12-2030", "--additional", "a=1", "--additional", "b=", "--min", "1", "--max", "0", "--strategy", "blue-green"},
			&challengev1.UpdateChallengeRequest{
				Id: "hello", Scenario: &ref, UpdateStrategy: &green, Timeout: durationpb.New(90 * time.Minute),
				Until:      timestamppb.New(time.Date(2030, 12, 31, 0, 0, 0, 0, time.UTC)),
				Additional: map[string]string{"a": "1", "b": ""}, Min: 1,
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scenario", "timeout", "until", "additional", "min", "max"}},
			},
		},
		"resets": {
			[]string{"--reset-timeout", "--reset-until", "--reset-additional"},
			&challengev1.UpdateChallengeRequest{Id: "hello", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"timeout", "until", "additional"}}},
		},
		"strategy alone": {
			[]string{"--strategy", "blue-green"},
			&challengev1.UpdateChallengeRequest{Id: "hello", UpdateStrategy: &green, UpdateMask: &fieldmaskpb.FieldMask{}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, _, diagnostics := mayfly(t, append([]string{"challenge", "update", "hello", "--url", url}, test.args...)...)
			if code != exitOK {
				t.Fatalf("exit code %d: %s", code, diagnostics)
			}
			if diff := cmp.Diff(test.want, <-requests, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClientPushesADirectory(t *testing.T) {
	t.Parallel()
	handler, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	for name, data := range map[string]string{"Pulumi.yaml": "name: x\nruntime: {name: go, options: {binary: main}}\n", "main": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	code, out, diagnostics := mayfly(t, "scenario", "push", dir, host+"/x:1", "-o", "json")
	var pushed struct{ Reference, Digest string }
	if err := json.Unmarshal([]byte(out), &pushed); code != exitOK || err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, diagnostics)
	}
	if pushed.Reference != host+"/x:1" || !strings.HasPrefix(pushed.Digest, "sha256:") {
		t.Errorf("pushed as %+v", pushed)
	}
	if code, out, _ := mayfly(t, "scenario", "push", dir, host+"/x:1"); code != exitOK || !strings.Contains(out, pushed.Digest) {
		t.Errorf("exit code %d, output %s, want the digest %s", code, out, pushed.Digest)
	}
	url := serveVerbs(t, serve.Options{Verbs: canned()})
	if code, _, diagnostics := mayfly(t, "challenge", "create", "x", "--dir", dir, "--scenario", host+"/x:2", "--url", url); code != exitOK {
		t.Errorf("exit code %d: %s", code, diagnostics)
	}
	if code, _, diagnostics := mayfly(t, "scenario", "push", dir, host+"/x"); code != exitFailed || !strings.Contains(diagnostics, "with a tag") {
		t.Errorf("exit code %d without a tag: %s", code, diagnostics)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	var ticks atomic.Int64
	count := func(_ context.Context, e cloudevents.Event) error {
		if e.Type() != "dev.mayfly.tick" || e.Source() != "/mayfly/cli" {
			t.Errorf("event is %s", e)
		}
		ticks.Add(1)
		return nil
	}
	url := serveVerbs(t, serve.Options{Events: map[string]serve.EventHandler{"/expire": count, "/reconcile": count}})
	for _, name := range []string{"expire", "reconcile"} {
		if code, _, diagnostics := mayfly(t, name, "--url", url); code != exitOK {
			t.Errorf("%s: exit code %d: %s", name, code, diagnostics)
		}
	}
	if got := ticks.Load(); got != 2 {
		t.Errorf("%d ticks arrived, want 2", got)
	}
	failing := serveVerbs(t, serve.Options{Events: map[string]serve.EventHandler{
		"/expire": func(context.Context, cloudevents.Event) error { return ctf.StoreUnavailable(nil) },
	}})
	if code, _, diagnostics := mayfly(t, "expire", "--url", failing); code != exitFailed || !strings.Contains(diagnostics, "503") {
		t.Errorf("a failed tick: exit code %d: %s", code, diagnostics)
	}
}

func TestClientSaysThatNothingAnswers(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"challenge", "list"}, {"challenge", "get", "x"}, {"instance", "create", "x", "y"}, {"expire"},
	} {
		code, _, diagnostics := mayfly(t, append(args, "--url", "127.0.0.1:1")...)
		if code != exitFailed || !strings.Contains(diagnostics, "no answer from http://127.0.0.1:1") || !strings.Contains(diagnostics, "mayfly run") {
			t.Errorf("%s: exit code %d: %s", strings.Join(args, " "), code, diagnostics)
		}
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	t.Parallel()
	root := newRootCommand()
	for _, cmd := range slices.Concat(root.Commands(), root.Commands()[0].Commands()) {
		for _, one := range append(cmd.Commands(), cmd) {
			if one.Hidden || one.HasSubCommands() {
				continue
			}
			if one.Short == "" || one.Example == "" {
				t.Errorf("%s has no description or no example", one.CommandPath())
			}
		}
	}
}
