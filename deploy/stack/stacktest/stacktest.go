// Package stacktest runs the Pulumi program of deploy through Mayfly's own
// engine: the program that `pulumi up` would compile, with the configuration
// that Pulumi itself makes of a stack's and of Pulumi.yaml.
package stacktest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	cli "github.com/pulumi/pulumi/pkg/v3/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/common/esc"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// A Stack is the program, an engine that runs it, and what is known of its
// resources. Its name is Identity.
type Stack struct {
	Identity ctf.Identity

	tb     testing.TB
	root   string
	engine *engine.Engine
	ledger *engine.Ledger
}

// A Program is the compiled program with the folder config beside it.
type Program string

// Build compiles the program; root is the directory of go.work.
func Build(tb testing.TB, root string) Program {
	tb.Helper()
	dir := tb.TempDir()
	for file, source := range map[string]string{"program": "./deploy", "cli": "./deploy/stack/stacktest/cli"} {
		command := exec.CommandContext(tb.Context(), "go", "build", "-o", filepath.Join(dir, file), source)
		command.Dir = root
		if out, err := command.CombinedOutput(); err != nil {
			tb.Fatalf("build %s: %v\n%s", source, err, out)
		}
	}
	check(tb, os.CopyFS(filepath.Join(dir, "config"), os.DirFS(filepath.Join(root, "config"))))
	project := "name: mayfly\nruntime: {name: go, options: {binary: ./cli}}\n"
	check(tb, os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(project), 0o600))
	return Program(dir)
}

// Open returns the program as the engine takes it.
func (p Program) Open(ctx context.Context, _ ctf.Scenario) (*scenario.Content, error) {
	return scenario.OpenDirectory(ctx, string(p))
}

// New returns a stack without resources. The worker's command and environment
// are of a program that calls [engine.Work] with a provider kubernetes.
func New(tb testing.TB, root string, program Program, worker, environment []string) *Stack {
	tb.Helper()
	e, err := engine.New(tb.Context(), engine.Options{
		Source: program, WorkerCommand: worker, WorkerEnv: environment, ScenarioTimeout: 5 * time.Minute,
	})
	check(tb, err)
	tb.Cleanup(func() { check(tb, e.Close()) })
	s := &Stack{Identity: ctf.NewIdentity(), tb: tb, root: root, engine: e, ledger: &engine.Ledger{}}
	s.ledger.Extend(time.Now().Add(time.Hour))
	return s
}

// Up does what `pulumi up` does with a configuration.
func (s *Stack) Up(c Configuration) error {
	s.tb.Helper()
	program, err := s.program(c)
	if err != nil {
		return err
	}
	result, err := s.engine.Up(s.tb.Context(), program, s.ledger.Checkpoint(), s.ledger)
	if err != nil {
		return err
	}
	return s.ledger.Rebase(s.tb.Context(), result.Base)
}

// Preview does what `pulumi preview` does for a new stack.
func (s *Stack) Preview(c Configuration) error {
	s.tb.Helper()
	program, err := s.program(c)
	if err != nil {
		return err
	}
	return s.engine.Preview(s.tb.Context(), program)
}

// Destroy does what `pulumi destroy` does. It may be called again.
func (s *Stack) Destroy(ctx context.Context) error {
	return s.engine.Down(ctx, ctf.InstanceKey{Identity: s.Identity}, s.ledger.Checkpoint(), s.ledger)
}

func (s *Stack) program(c Configuration) (ctf.Program, error) {
	s.tb.Helper()
	environment, err := c.environment(s.tb, s.root)
	return ctf.Program{Instance: ctf.InstanceKey{Identity: s.Identity}, Additional: environment}, err
}

// A Configuration is that of a stack, each value as Pulumi.STACK.yaml has it.
type Configuration struct {
	Plain  map[string]any
	Secret map[string]string
}

// environment is how the command line hands the configuration to a program,
// unless Pulumi.yaml does not allow it. The folder config is beside the program
// here.
func (c Configuration) environment(tb testing.TB, root string) (map[string]string, error) {
	tb.Helper()
	project, err := workspace.LoadProject(filepath.Join(root, "deploy", "Pulumi.yaml"))
	check(tb, err)
	name := string(project.Name)
	stack := config.Map{config.MustMakeKey(name, "config"): config.NewValue("config")}
	for key, value := range c.Plain {
		text, isText := value.(string)
		if isText {
			stack[config.MustMakeKey(name, key)] = config.NewValue(text)
			continue
		}
		encoded, err := json.Marshal(value)
		check(tb, err)
		stack[config.MustMakeKey(name, key)] = config.NewObjectValue(string(encoded))
	}
	for key, value := range c.Secret {
		stack[config.MustMakeKey(name, key)] = config.NewSecureValue(value)
	}
	err = cli.ValidateStackConfigAndApplyProjectConfig(tb.Context(), "test", project, esc.Value{}, stack, config.NopEncrypter, config.NopDecrypter)
	if err != nil {
		return nil, err
	}
	settings, err := stack.Decrypt(config.NopDecrypter)
	check(tb, err)
	text := map[string]string{}
	for key, value := range settings {
		text[key.String()] = value
	}
	var secrets []string
	for _, key := range stack.SecureKeys() {
		secrets = append(secrets, key.String())
	}
	return map[string]string{"PULUMI_CONFIG": encode(tb, text), "PULUMI_CONFIG_SECRET_KEYS": encode(tb, secrets)}, nil
}

func encode(tb testing.TB, value any) string {
	tb.Helper()
	text, err := json.Marshal(value)
	check(tb, err)
	return string(text)
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
