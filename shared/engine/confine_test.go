package engine_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
)

func TestProgramSeesNothingElse(t *testing.T) {
	t.Setenv("OCI_PASSWORD", "the parent's secret")
	s := newSite(t, func(o *engine.Options) { o.TargetNamespace = "challenges" })
	result := s.mustUp(t, program("0123456789abcdef", "mode", "environment", "k", "v"), newLedger())
	var names []string
	values := map[string]string{}
	for line := range strings.Lines(result.ConnectionInfo) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		names, values[name] = append(names, name), value
	}
	slices.Sort(names)
	want := []string{
		"CM_PROJECT", "KUBERNETES_TARGET_NAMESPACE", "PULUMI_CONFIG", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_SECRET_KEYS",
		"PULUMI_DRY_RUN", "PULUMI_ENGINE", "PULUMI_MONITOR", "PULUMI_ORGANIZATION", "PULUMI_PARALLEL", "PULUMI_PROJECT",
		"PULUMI_ROOT_DIRECTORY", "PULUMI_STACK", "TMPDIR",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, value := range map[string]string{
		"CM_PROJECT": "one", "PULUMI_PROJECT": "one", "PULUMI_ORGANIZATION": "organization", "PULUMI_DRY_RUN": "false",
		"PULUMI_STACK": "0123456789abcdef", "KUBERNETES_TARGET_NAMESPACE": "challenges", "PULUMI_CONFIG_PASSPHRASE": "",
		"PULUMI_CONFIG": `{"one:additional":"{\"k\":\"v\",\"mode\":\"environment\"}","one:identity":"0123456789abcdef"}`,
	} {
		if values[name] != value {
			t.Errorf("%s is %q, want %q", name, values[name], value)
		}
	}
	if diff := cmp.Diff([]string{"0", "1", "2"}, result.Flags); diff != "" {
		t.Errorf("inherited descriptors (-want +got)\n%s", diff)
	}
}

func TestProgramIsConfined(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	path := filepath.Join(t.TempDir(), "socket")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	s := newSite(t)
	p := program(ctf.NewIdentity(), "mode", "probe", "address", listener.Addr().String(), "socket", path)
	result := s.mustUp(t, p, newLedger())
	if diff := cmp.Diff([]string{"write its temporary directory", "listen", "read its own directory"}, result.Flags); diff != "" {
		t.Errorf("what the program could do (-want +got)\n%s", diff)
	}
}

// What a program writes is bounded, and gone with it; or with the next engine, if
// this one is killed.
func TestProgramTemporaryDirectory(t *testing.T) {
	t.Parallel()
	temporary := filepath.Join(t.TempDir(), "scratch")
	locked := filepath.Join(temporary, "scenario-1", "locked")
	if err := errors.Join(os.MkdirAll(filepath.Join(locked, "inner"), 0o700), os.Chmod(locked, 0)); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(o *engine.Options) { o.Scratch = temporary })
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left of an earlier engine: %v, %v", left, err)
	}
	for _, files := range []string{"many", "one", "empty"} {
		_, err := s.Up(t.Context(), program(ctf.NewIdentity(), "mode", "fill", "files", files), ctf.Checkpoint{}, newLedger())
		if err == nil || !strings.Contains(err.Error(), "wrote more than 4 MiB to its temporary directory") {
			t.Errorf("filled the disk with %s: %v", files, err)
		}
	}
	s.mustUp(t, program(ctf.NewIdentity(), "mode", "probe", "address", "127.0.0.1:1", "socket", "none"), newLedger())
	left, err := filepath.Glob(filepath.Join(temporary, "scenario-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestProgramLeavesNobodyBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	result := s.mustUp(t, program(ctf.NewIdentity(), "mode", "fork"), newLedger())
	pid, err := strconv.Atoi(result.ConnectionInfo)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return !runs(pid) })
}
