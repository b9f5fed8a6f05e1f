package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// openScript describes files instead of what the manifest says, and as
// additional has it.
func openScript(dir string) (engine.Describe, error) {
	if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
		return nil, errors.New("the first mistake\nthe second mistake")
	}
	return describe, nil
}

func describe(ctx *pulumi.Context, project, namespace string) error {
	settings := config.New(ctx, project)
	var additional map[string]string
	settings.RequireObject("additional", &additional)
	ctx.Export("connection_info", pulumi.String(project+" "+namespace+" "+settings.Require("identity")))
	ctx.Export("flags", pulumi.ToSecret(pulumi.ToStringArray([]string{"FLAG{1}"})))
	if names := additional["files"]; names != "" {
		for name := range strings.SplitSeq(names, ",") {
			var f struct {
				pulumi.CustomResourceState
				Path pulumi.StringOutput `pulumi:"path"`
			}
			inputs := pulumi.Map{"content": pulumi.String("x"), "kind": pulumi.String(additional["kind"])}
			if err := ctx.RegisterResource("disk:index:File", name, inputs, &f); err != nil {
				return err
			}
		}
	}
	switch additional["mode"] {
	case "error":
		return errors.New("the author's mistake")
	case "panic":
		panic("the author's bug")
	case "hang":
		select {}
	}
	return nil
}

// A folder is a source of one scenario.
type folder string

func (f folder) Open(ctx context.Context, _ ctf.Scenario) (*scenario.Content, error) {
	return scenario.OpenDirectory(ctx, string(f))
}

func newFolder(t *testing.T, files ...string) folder {
	t.Helper()
	dir := t.TempDir()
	for _, name := range append(files, manifest.File) {
		if err := os.WriteFile(filepath.Join(dir, name), manifest.Starter("test"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder(dir)
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) { o.Source, o.TargetNamespace = newFolder(t), "arena" })
	id, l := ctf.NewIdentity(), newLedger()
	if err := s.Preview(t.Context(), program("", "files", "a,b")); err != nil {
		t.Error(err)
	}
	if calls := s.calls(); calls != "" {
		t.Errorf("a preview changed something: %s", calls)
	}
	got := s.mustUp(t, program(id, "files", "a,b"), l)
	got.Base = nil
	want := ctf.Result{ConnectionInfo: "test arena " + string(id), Flags: []string{"FLAG{1}"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s.mustUp(t, program(id, "files", "b"), l)
	s.mustDown(t, id, l)
	left, err := os.ReadDir(s.disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.Contains(f.Name(), string(id)) {
			t.Errorf("%s is left", f.Name())
		}
	}
}

func TestInProcessFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) { o.Source, o.ScenarioTimeout = newFolder(t), 5*time.Second })
	tests := map[string]struct{ mode, want string }{
		"returns_an_error": {"error", "the author's mistake"},
		"panics":           {"panic", "the program panicked: the author's bug"},
		"hangs":            {"hang", "the program did not end within its time limit of 5s"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, l := ctf.NewIdentity(), newLedger()
			_, err := s.Up(t.Context(), program(id, "mode", test.mode), ctf.Checkpoint{}, l)
			var failure *ctf.Error
			if !errors.As(err, &failure) || failure.Reason != ctf.ReasonDeploymentFailed || failure.Detail != test.want {
				t.Fatalf("got %v", err)
			}
			err = s.Preview(t.Context(), program(id, "mode", test.mode))
			if !errors.As(err, &failure) || failure.Reason != ctf.ReasonScenarioMismatch || failure.Detail != test.want {
				t.Errorf("a preview says %v", err)
			}
			s.mustUp(t, program(id), l)
		})
	}
}

func TestInProcessIsBroken(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) { o.Source = newFolder(t, "broken") })
	err := s.Preview(t.Context(), program(""))
	var mismatch *ctf.Error
	if !errors.As(err, &mismatch) || mismatch.Detail != "the first mistake\nthe second mistake" {
		t.Errorf("got %v", err)
	}
}

// A caller who leaves, or whose lease is lost, does not wait for a description
// that hangs.
func TestInProcessIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *engine.Options) { o.Source = newFolder(t) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	id, l := ctf.NewIdentity(), newLedger()
	go func() {
		_, err := s.Up(ctx, program(id, "mode", "hang", "files", "a"), ctf.Checkpoint{}, l)
		ended <- err
	}()
	eventually(t, "it began", func() bool { return s.calls() != "" })
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	s.mustDown(t, id, l)
}
