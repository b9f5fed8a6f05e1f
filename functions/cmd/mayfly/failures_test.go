package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// examples are scenarios of the kit.
const examples = "../../../shared/sdk/examples"

// quiet keeps the ticks of a server from doing what a test is about.
var quiet = []string{"LOG_LEVEL=warn", "TICK=1h", "RECONCILE=1h"}

// TestFailingDestroy (A34): what can't be destroyed keeps its record, and whoever tries
// again when it can be is told that he succeeded.
func TestFailingDestroy(t *testing.T) {
	for name, path := range map[string]string{"instance": "/instance/1/2", "challenge": "/challenge/1"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, quiet...)
			s.Start()
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushService(t, s, "service:1")})
			address := s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"}).ConnectionInfo

			// Where processes are written down there is a file instead.
			instances := filepath.Join(s.Dir, "data", "instances")
			rename(t, instances, instances+".away")
			if err := os.WriteFile(instances, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			answer := s.try(t, http.MethodDelete, path, nil)
			wantFailure(t, answer, http.StatusInternalServerError, "DEPLOYMENT_FAILED", "process:index:Process service")
			answers(t, address)
			if err := os.Remove(instances); err != nil {
				t.Fatal(err)
			}
			rename(t, instances+".away", instances)
			s.Must(http.MethodDelete, path, nil)
			wantNothingRunning(t, s)
			if answer := s.try(t, http.MethodGet, path, nil); answer.Status != http.StatusNotFound {
				t.Errorf("the %s is there: %s", name, answer.Raw)
			}
		})
	}
}

// TestFailedRecreateIsCleared: what an update could neither make anew nor destroy
// is no instance any more, and the next reconcile destroys it.
func TestFailedRecreateIsCleared(t *testing.T) {
	s := newServer(t, quiet...)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushService(t, s, "service:1")})
	instance := map[string]any{"challengeId": "1", "sourceId": "2"}
	address := s.Must(http.MethodPost, "/instance", instance).ConnectionInfo

	instances := filepath.Join(s.Dir, "data", "instances")
	rename(t, instances, instances+".away")
	if err := os.WriteFile(instances, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	update := map[string]any{
		"additional": map[string]string{"round": "2"}, "updateMask": "additional", "updateStrategy": "recreate",
	}
	answer := s.try(t, http.MethodPatch, "/challenge/1", update)
	wantFailure(t, answer, http.StatusInternalServerError, "DEPLOYMENT_FAILED", "process:index:Process service")
	if answer := s.try(t, http.MethodGet, "/instance/1/2", nil); answer.Status != http.StatusNotFound {
		t.Errorf("there is an instance: %s", answer.Raw)
	}
	if err := os.Remove(instances); err != nil {
		t.Fatal(err)
	}
	rename(t, instances+".away", instances)
	answers(t, address)

	s.Tick("/reconcile")
	wantNothingRunning(t, s)
	answers(t, s.Must(http.MethodPost, "/instance", instance).ConnectionInfo)
	s.Must(http.MethodDelete, "/challenge/1", nil)
	wantNothingRunning(t, s)
}

// TestKubernetesIsNotOffered tells who brings a scenario for Kubernetes what
// has to be done.
func TestKubernetesIsNotOffered(t *testing.T) {
	s := newServer(t, append(quiet, "INSTANCE_HOSTNAME=ctf.example")...)
	s.Start()
	text, err := os.ReadFile(filepath.Join(examples, "notes", "scenario", manifest.File))
	if err != nil {
		t.Fatal(err)
	}
	pushed := pushTo(t, s.Registry, "notes:1", map[string][]byte{manifest.File: text})
	answer := s.try(t, http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushed})
	wantFailure(t, answer, http.StatusBadRequest, "SCENARIO_NON_MATCHING_SPECIFICATION", "--kubernetes")
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// try makes a call that may be refused.
func (s *server) try(t *testing.T, method, path string, body any) reply {
	t.Helper()
	answer, err := s.Call(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestRegistryAway takes the registry away. What is cached is deployed all the
// same, and what is not is told so.
func TestRegistryAway(t *testing.T) {
	handler, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	stop := serveAt(t, address, handler)
	s := newServer(t, append(quiet, "OCI_INSECURE=true")...)
	s.Start()
	reference := pushTo(t, address, "service:1", serviceFiles(t))
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference})
	stop()

	s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "cached"})
	wantFailure(t, s.try(t, http.MethodPost, "/challenge", map[string]any{"id": "2", "scenario": reference}),
		http.StatusBadRequest, "OCI_INTERACTION", "Registry is not available")
	s.Stop()
	if err := os.RemoveAll(filepath.Join(s.Dir, "cache")); err != nil {
		t.Fatal(err)
	}
	s.Start()
	wanted := map[string]any{"challengeId": "1", "sourceId": "not cached"}
	wantFailure(t, s.try(t, http.MethodPost, "/instance", wanted),
		http.StatusInternalServerError, "OCI_INTERACTION", "Registry is not available")
	if n := len(s.processes()); n != 1 {
		t.Errorf("%d instances run, want 1", n)
	}
	defer serveAt(t, address, handler)()
	s.Must(http.MethodPost, "/instance", wanted)
	s.Must(http.MethodDelete, "/challenge/1", nil)
	wantNothingRunning(t, s)
}

// serveAt serves until the returned function is called.
func serveAt(t *testing.T, address string, handler http.Handler) (stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() {
		_ = server.Close() // what is left of its connections does not matter
		<-ended
	}
}

// TestIdempotencyKeyOutlivesACrash kills Mayfly in the middle of a create. The
// same key gets the same instance afterwards, over REST and gRPC, and another
// key is refused.
func TestIdempotencyKeyOutlivesACrash(t *testing.T) {
	s := newServer(t, quiet...)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushMisbehaving(t, s, "misbehaving:1")})
	create := func(key string) (*instancev1.Instance, error) {
		connection, err := grpc.NewClient(strings.TrimPrefix(s.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		defer func() { _ = connection.Close() }()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "Idempotency-Key", key)
		return instancev1.NewInstanceManagerClient(connection).CreateInstance(ctx, &instancev1.CreateInstanceRequest{
			ChallengeId: "1", SourceId: "2", Additional: map[string]string{"up": "slow"},
		})
	}
	ended := make(chan error, 1)
	go func() {
		_, err := create("the first")
		ended <- err
	}()
	eventually(t, "the process runs", func() error {
		if len(s.processes()) == 0 {
			return fmt.Errorf("none does")
		}
		return nil
	})
	s.Kill()
	if err := <-ended; err == nil {
		t.Fatal("the create was over before the crash")
	}
	s.Start()
	first, err := create("the first")
	if err != nil {
		t.Fatal(err)
	}
	answers(t, first.GetConnectionInfo())
	for key, want := range map[string]int{"the first": http.StatusOK, "another": http.StatusConflict} {
		header := http.Header{"Idempotency-Key": {key}}
		answer, err := s.callWith(t.Context(), header, http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != want || want == http.StatusOK && answer.ConnectionInfo != first.GetConnectionInfo() {
			t.Errorf("with the key %q: %d %s", key, answer.Status, answer.Raw)
		}
	}
	if running := s.processes(); len(running) != 1 {
		t.Errorf("these run, want one: %v", running)
	}
	s.Must(http.MethodDelete, "/challenge/1", nil)
	wantNothingRunning(t, s)
}
