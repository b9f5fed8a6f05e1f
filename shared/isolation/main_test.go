//go:build cluster

// Package isolation_test deploys instances that are described with the authors'
// kit on a real cluster, plays them, and tries from inside their pods what they
// can reach. It must run as root on a node of the cluster.
package isolation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// soon is how long what must come may take.
const soon = 30 * time.Second

// TestMain is a worker when it is told to, as the binary of a real service is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		cluster, err := kubernetes.Connect("")
		if err != nil {
			panic(err)
		}
		options := kubernetes.Options{Cluster: cluster, Namespace: os.Args[2], ReadyTimeout: time.Minute}
		os.Exit(engine.Work(context.Background(), engine.Providers{
			kubernetes.Package: func() (plugin.Provider, error) { return kubernetes.NewProvider(options) },
		}, nil))
	}
	os.Exit(m.Run())
}

// A stage is a namespace with an engine, and the image of the probe.
type stage struct {
	*clustertest.Cluster
	t         *testing.T
	engine    *engine.Engine
	namespace string
	node      string
	image     string
}

// A shelf has scenarios by the names of their directories.
type shelf string

func (s shelf) Open(ctx context.Context, wanted ctf.Scenario) (*scenario.Content, error) {
	return scenario.OpenDirectory(ctx, filepath.Join(string(s), wanted.Reference))
}

// compiled are the programs that were compiled, by their directories.
var compiled = struct {
	sync.Mutex
	programs map[string][]byte
}{programs: make(map[string][]byte)}

func program(t *testing.T, dir string) []byte {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	if compiled.programs[dir] == nil {
		compiled.programs[dir] = clustertest.Program(t, dir)
	}
	return compiled.programs[dir]
}

func newStage(t *testing.T, programs map[string]string) *stage {
	t.Helper()
	s := &stage{Cluster: clustertest.New(t), t: t}
	s.namespace, s.node = s.Namespace(), s.NodeAddress()
	s.image = clustertest.Image(t, "probe", map[string][]byte{"program": program(t, "testdata/probe")})
	dir := t.TempDir()
	for name, source := range programs {
		ok(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		ok(t, os.WriteFile(filepath.Join(dir, name, "Pulumi.yaml"),
			[]byte("name: "+name+"\nruntime:\n  name: go\n  options:\n    binary: ./main\n"), 0o600))
		ok(t, os.WriteFile(filepath.Join(dir, name, "main"), program(t, source), 0o700))
	}
	self, err := os.Executable()
	ok(t, err)
	s.engine, err = engine.New(t.Context(), engine.Options{
		Source: shelf(dir), WorkerCommand: []string{self, "worker", s.namespace}, Workers: 2, TargetNamespace: s.namespace,
		WorkerEnv: []string{"KUBECONFIG=" + os.Getenv("KUBECONFIG")}, ScenarioMemory: 1 << 30,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, s.engine.Close()) })
	return s
}

// An instance is one of a program of the stage.
type instance struct {
	*stage
	ledger  *engine.Ledger
	program ctf.Program
	info    string
}

// instance is one that is destroyed at the end of the test, at the latest.
func (s *stage) instance(t *testing.T, program string, additional map[string]string) *instance {
	t.Helper()
	i := &instance{stage: s, ledger: newLedger()}
	i.program = ctf.Program{Scenario: ctf.Scenario{Reference: program}, Additional: maps.Clone(additional)}
	i.program.Instance = ctf.InstanceKey{
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "kit"}, Identity: ctf.NewIdentity(),
	}
	t.Cleanup(func() {
		ok(t, s.engine.Down(context.Background(), i.program.Instance, i.ledger.Checkpoint(), i.ledger))
	})
	return i
}

func newLedger() *engine.Ledger {
	l := &engine.Ledger{}
	l.Extend(time.Now().Add(time.Hour))
	return l
}

// kit is an instance that is described with the authors' kit: args are those of
// the component of that name.
func (s *stage) kit(t *testing.T, component string, args any) *instance {
	t.Helper()
	i := s.instance(t, "kit", nil)
	i.describe(t, component, args)
	return i
}

func (i *instance) describe(t *testing.T, component string, args any) {
	t.Helper()
	text, err := json.Marshal(args)
	ok(t, err)
	i.program.Additional = map[string]string{component: string(text)}
}

func (i *instance) up(t *testing.T) {
	t.Helper()
	began := time.Now()
	result, err := i.engine.Up(t.Context(), i.program, i.ledger.Checkpoint(), i.ledger)
	ok(t, err)
	ok(t, i.ledger.Rebase(t.Context(), result.Base))
	i.info = result.ConnectionInfo
	t.Logf("up in %v: %s", time.Since(began).Round(time.Millisecond), i.info)
}

// down destroys the instance and sees that nothing is left.
func (i *instance) down(t *testing.T) {
	t.Helper()
	began := time.Now()
	ok(t, i.engine.Down(t.Context(), i.program.Instance, i.ledger.Checkpoint(), i.ledger))
	t.Logf("down in %v", time.Since(began).Round(time.Millisecond))
	i.ledger = newLedger()
	i.WantNothing(i.selector())
}

func (i *instance) selector() string {
	return kubernetes.LabelIdentity + "=" + string(i.program.Instance.Identity)
}

// at is where players reach a port of the instance.
func (i *instance) at(t *testing.T, container, port string) string {
	t.Helper()
	var urls map[string]map[string]string
	ok(t, json.Unmarshal([]byte(i.info), &urls))
	if urls[container][port] == "" {
		t.Fatalf("%s of %s is not in %s", port, container, i.info)
	}
	return urls[container][port]
}

// A door is where a probe answers.
type door struct {
	t       *testing.T
	address string
}

// ask returns what a probe answers to a question and its parameters, or why it
// does not.
func (d door) ask(question string, parameters ...string) string {
	values := url.Values{}
	for n := 0; n+1 < len(parameters); n += 2 {
		values.Set(parameters[n], parameters[n+1])
	}
	answer, err := clustertest.Play(d.t, "http://"+d.address+question+"?"+values.Encode())
	if err != nil {
		return err.Error()
	}
	return answer
}

// exchange sends and returns what comes back.
func exchange(network, address, send string) (string, error) {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	got := make([]byte, len(send))
	_, err = io.ReadFull(conn, got)
	return string(got), err
}

// want waits until got returns what is wanted.
func want(t *testing.T, what string, got func() string, wanted string) {
	t.Helper()
	clustertest.Eventually(t, soon, what, func() error {
		if text := got(); text != wanted {
			return fmt.Errorf("it is %q, want %q", text, wanted)
		}
		return nil
	})
}

// wantPart waits until got returns something with that part.
func wantPart(t *testing.T, what string, got func() string, part string) {
	t.Helper()
	clustertest.Eventually(t, soon, what, func() error {
		if text := got(); !strings.Contains(text, part) {
			return errors.New(text)
		}
		return nil
	})
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
