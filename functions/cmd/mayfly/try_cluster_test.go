//go:build cluster

package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// A tryStage is a namespace to try in, and a scenario without code.
type tryStage struct {
	*clustertest.Cluster
	t         *testing.T
	env, args []string
}

// newTryStage writes a manifest of one container with that image.
func newTryStage(t *testing.T, image string) *tryStage {
	t.Helper()
	c := clustertest.New(t)
	dir := t.TempDir()
	manifest := fmt.Sprintf(`name: talker
secret: 000102030405060708090a0b0c0d0e0f
flags:
  flag: {random: 32, format: "CTF{%%s}"}
containers:
  talker:
    image: %s
    ports:
      - {port: 8080, expose: nodeport}
    env: {ANSWER: "${flag}"}
    limits: {cpu: 100m, memory: 64Mi}
    requests: {cpu: 1m, memory: 8Mi}
connection: http://${host}:${port}/
`, image)
	if err := os.WriteFile(filepath.Join(dir, "mayfly.yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tryStage{
		Cluster: c, t: t,
		env:  tryEnvironment(t),
		args: []string{dir, "--kubeconfig", os.Getenv("KUBECONFIG"), "--namespace", c.Namespace(), "--instance-hostname", c.NodeAddress()},
	}
}

func (s *tryStage) start() *tryRun { return startTry(s.t, s.env, s.args...) }

func (s *tryStage) clean() *tryRun {
	return startTry(s.t, s.env, append([]string{"--clean"}, s.args[1:]...)...)
}

// ours tells whether an object, as List has it, is in the namespace.
func (s *tryStage) ours(object string) bool { return strings.Contains(object, " "+s.args[4]+"/") }

// says waits until a try says something.
func (s *tryStage) says(run *tryRun, what string) {
	s.t.Helper()
	eventually(s.t, "it says "+what, func() error {
		if !strings.Contains(run.diagnostics.String(), what) {
			return errors.New(run.diagnostics.String())
		}
		return nil
	})
}

func talker(t *testing.T) string {
	t.Helper()
	return clustertest.Image(t, "talker", map[string][]byte{"program": clustertest.Program(t, "testdata/talker")})
}

func of(identity string) string { return kubernetes.LabelIdentity + "=" + identity }

// TestClusterTry deploys a scenario without code, shows what it does, and tears it
// down on Ctrl-C.
func TestClusterTry(t *testing.T) {
	t.Parallel()
	s := newTryStage(t, talker(t))
	run := s.start()
	at, flag := run.ready(), run.field("flag")
	clustertest.Eventually(t, 30*time.Second, at+" answers with the flag", func() error {
		response, err := (&http.Client{Timeout: time.Second}).Get(at)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if body, err := io.ReadAll(response.Body); err != nil || string(body) != flag {
			return fmt.Errorf("it answers %q, %w", body, err)
		}
		return nil
	})
	s.says(run, "the talker listens")
	s.says(run, "somebody asks for /")
	s.says(run, "Started: Container started")
	run.interrupt()
	run.wait(0)
	s.says(run, "nothing is left")
	s.WantNothing(of(run.field("identity")))
}

// TestClusterTryFails has an image that is not there: the reason is told, and nothing
// stays.
func TestClusterTryFails(t *testing.T) {
	t.Parallel()
	s := newTryStage(t, clustertest.Registry(t)+"/none:1")
	run := s.start()
	run.wait(1)
	for _, want := range []string{"does not come up", "can't be pulled", "WARNING Failed", "nothing is left"} {
		s.says(run, want)
	}
	clustertest.Eventually(t, time.Minute, "nothing stays", func() error { // endpoints go a moment after their service
		if left := s.List(kubernetes.LabelInstallation + "=try"); slices.ContainsFunc(left, s.ours) {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// TestClusterTryIsStopped has a second Ctrl-C, which says what is left and how to
// remove it; --clean does.
func TestClusterTryIsStopped(t *testing.T) {
	t.Parallel()
	s := newTryStage(t, talker(t))
	run := s.start()
	run.ready()
	run.interrupt()
	s.says(run, "Tearing it down")
	tearing := time.After(500 * time.Millisecond) // what comes sooner is the same Ctrl-C
	<-tearing
	run.interrupt()
	run.wait(1)
	s.says(run, "mayfly scenario try --clean")
	s.says(run, "kubectl delete configmap")
	s.clean().wait(0)
	s.WantNothing(of(run.field("identity")))
}

// TestClusterTryIsKilled has a try killed; it leaves what --clean removes, and what
// is tried at that moment stays.
func TestClusterTryIsKilled(t *testing.T) {
	t.Parallel()
	s := newTryStage(t, talker(t))
	run, other := s.start(), s.start()
	run.ready()
	other.ready()
	run.kill()
	clean := s.clean()
	clean.wait(0)
	s.says(clean, "Removed what an earlier try left: "+run.field("identity"))
	s.WantNothing(of(run.field("identity")))
	if len(s.List(of(other.field("identity")))) == 0 {
		t.Error("what is in use is removed")
	}
	other.interrupt()
	other.wait(0)
	s.WantNothing(of(other.field("identity")))
}

// TestClusterTryWithoutItsNamespace says what to do.
func TestClusterTryWithoutItsNamespace(t *testing.T) {
	t.Parallel()
	s := newTryStage(t, "none")
	run := startTry(t, s.env, append(s.args, "--namespace", "not-there")...)
	run.wait(1)
	s.says(run, "kubectl create namespace not-there")
}
