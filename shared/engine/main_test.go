package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// suite is what the tests share: a library and the scenarios in its registry.
type suite struct {
	dir      string
	library  *scenario.Library
	registry string
	how      scenario.Registries
	// one and two are the same program under two project names.
	one, two ctf.Scenario
}

var shared *suite

// TestMain is a worker when it is told to, as the binary of a real service is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(engine.Work(context.Background(), engine.Providers{
			"disk": func() (plugin.Provider, error) { return newDisk(os.Getenv("DISK")) },
		}, openScript))
	}
	if len(os.Args) > 1 && os.Args[1] == "parent" {
		os.Exit(beParent(os.Args[2:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "engine-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	handler, err := registry.New(context.Background(), filepath.Join(dir, "registry"))
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	shared = &suite{dir: dir, registry: strings.TrimPrefix(server.URL, "http://"), how: scenario.Registries{
		Insecure: true, Credentials: scenario.Credentials{DockerConfig: filepath.Join(dir, "none.json")},
	}}
	shared.library, err = scenario.New(scenario.Options{CacheDir: filepath.Join(dir, "cache"), Registries: shared.how})
	if err != nil {
		panic(err)
	}
	defer shared.library.Close()
	program := filepath.Join(dir, "main")
	if err := build("./testdata/programs/scenario", program); err != nil {
		panic(err)
	}
	shared.one = push(shared, "one", program)
	shared.two = push(shared, "two", program)
	return m.Run()
}

func build(source, program string, env ...string) error {
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = source
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, output)
	}
	return nil
}

// push pushes a scenario of a program and files beside it.
func push(s *suite, project, program string, beside ...string) ctf.Scenario {
	dir := filepath.Join(s.dir, "scenario-"+project)
	content := "name: " + project + "\nruntime:\n  name: go\n  options:\n    binary: ./main\n"
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(content), 0o600)
	}
	for to, from := range append([]string{program}, beside...) {
		name := filepath.Base(from)
		if to == 0 {
			name = "main"
		}
		text, failed := os.ReadFile(from)
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(dir, name), text, 0o700))
	}
	if err != nil {
		panic(err)
	}
	pushed, err := scenario.Push(context.Background(), dir, s.registry+"/scenarios/"+project+":1", s.how)
	if err != nil {
		panic(err)
	}
	return pushed
}

// A site is one engine with a disk of its own for its provider.
type site struct {
	*engine.Engine
	disk string
}

func newSite(t testing.TB, change ...func(*engine.Options)) *site {
	t.Helper()
	disk := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	options := engine.Options{
		Source: shared.library, WorkerCommand: []string{self, "worker", disk}, // the last is for workers to find
		WorkerEnv: []string{"DISK=" + disk}, Workers: 2,
	}
	for _, f := range change {
		f(&options)
	}
	e, err := engine.New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "a first worker starts", func() bool { return len(workers(disk)) > 0 })
	return &site{e, disk}
}

// program is the shared scenario with additional settings in pairs.
func program(id ctf.Identity, additional ...string) ctf.Program {
	p := ctf.Program{Scenario: shared.one, Additional: map[string]string{}}
	p.Instance.Identity = id
	for i := 0; i < len(additional); i += 2 {
		p.Additional[additional[i]] = additional[i+1]
	}
	return p
}

func key(id ctf.Identity) ctf.InstanceKey { return ctf.InstanceKey{Identity: id} }

// A ledger is what a lease is over a store, which may refuse entries.
type ledger struct {
	engine.Ledger
	refuse func(entry []byte) error
}

func newLedger() *ledger {
	l := &ledger{}
	l.Extend(time.Now().Add(time.Hour))
	return l
}

func (l *ledger) Append(ctx context.Context, entry []byte) error {
	if l.refuse != nil {
		if err := l.refuse(entry); err != nil {
			return err
		}
	}
	return l.Ledger.Append(ctx, entry)
}

// mustUp deploys and keeps the new checkpoint, as a lease does.
func (s *site) mustUp(t testing.TB, p ctf.Program, l *ledger) ctf.Result {
	t.Helper()
	result, err := s.Up(t.Context(), p, l.Checkpoint(), l)
	if err != nil {
		t.Fatalf("up: %v", err)
	}
	_ = l.Rebase(t.Context(), result.Base)
	return result
}

func (s *site) mustDown(t testing.TB, id ctf.Identity, l *ledger) {
	t.Helper()
	if err := s.Down(t.Context(), key(id), l.Checkpoint(), l); err != nil {
		t.Fatalf("down: %v", err)
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came true that %s", what)
		}
	}
}
