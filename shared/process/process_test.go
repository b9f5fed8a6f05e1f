package process_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/process"
)

const identity = "0123456789abcdef"

func urn(identity, name string) resource.URN {
	return resource.URN("urn:pulumi:" + identity + "::riddle::" + string(process.Type) + "::" + name)
}

// role describes a program that plays a role of this test binary.
func role(name string) resource.PropertyMap {
	self, err := os.Executable()
	must(err)
	return resource.PropertyMap{
		"command": resource.NewProperty(self),
		"env":     resource.NewProperty(resource.PropertyMap{roleVariable: resource.NewProperty(name)}),
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func with(props resource.PropertyMap, key resource.PropertyKey, v resource.PropertyValue) resource.PropertyMap {
	props = props.Copy()
	props[key] = v
	return props
}

// newProvider returns a provider, and sees to it that no program is left.
func newProvider(t *testing.T, o process.Options) *process.Provider {
	t.Helper()
	if o.Directory == "" {
		o.Directory = t.TempDir()
	}
	p, err := process.NewProvider(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, id := range identities(t, o.Directory) {
			if err := p.Sweep(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		}
		if left := carriers(t, o.Directory); len(left) > 0 {
			t.Errorf("still running: %v", left)
		}
		eventually(t, "no logger is left", func() bool { return len(loggers(t, o.Directory)) == 0 })
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func create(t *testing.T, p *process.Provider, name string, props resource.PropertyMap) plugin.CreateResponse {
	t.Helper()
	r, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn(identity, name), Properties: props})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return r
}

func read(t *testing.T, p *process.Provider, name string, id resource.ID, props, state resource.PropertyMap) plugin.ReadResponse {
	t.Helper()
	r, err := p.Read(t.Context(), plugin.ReadRequest{URN: urn(identity, name), ID: id, Inputs: props, State: state})
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return r
}

func remove(t *testing.T, p *process.Provider, name string, r plugin.CreateResponse) {
	t.Helper()
	_, err := p.Delete(t.Context(), plugin.DeleteRequest{URN: urn(identity, name), ID: r.ID, Outputs: r.Properties})
	if err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

// greeting is what a program says to one who connects; empty if none listens.
func greeting(t *testing.T, props resource.PropertyMap) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", props["address"].StringValue(), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func pid(props resource.PropertyMap) int { return int(props["pid"].NumberValue()) }

// running tells whether a process has a thread that is no zombie.
func running(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(threads, func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && !strings.Contains(string(text), ") Z ")
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("serve"))

	if got, want := greeting(t, r.Properties), fmt.Sprintf("hello from %d\n", pid(r.Properties)); got != want {
		t.Errorf("greeting = %q, want %q", got, want)
	}
	if !strings.HasPrefix(string(r.ID), identity+"/riddle-") {
		t.Errorf("id = %q", r.ID)
	}
	if diff := cmp.Diff([]ctf.Identity{identity}, identities(t, dir)); diff != "" {
		t.Error("identities:", diff)
	}
	got := read(t, p, "riddle", r.ID, role("serve"), r.Properties)
	if !got.Outputs.DeepEquals(r.Properties) {
		t.Errorf("read = %v, want %v", got.Outputs, r.Properties)
	}

	remove(t, p, "riddle", r)
	if running(pid(r.Properties)) || greeting(t, r.Properties) != "" {
		t.Error("it still runs after the deletion")
	}
	remove(t, p, "riddle", r)
	if got := read(t, p, "riddle", r.ID, role("serve"), r.Properties); got.ID != "" {
		t.Errorf("read after the deletion = %v", got)
	}
	if ids := identities(t, dir); len(ids) > 0 {
		t.Errorf("left: %v", ids)
	}
}

func TestCreateEnvironment(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	props := role("serve")
	env := props["env"].ObjectValue()
	env["URL"] = resource.MakeSecret(resource.NewProperty("tcp://localhost:{port}/"))
	props["args"] = resource.NewProperty([]resource.PropertyValue{
		resource.NewProperty("--listen=:{port}"), resource.NewProperty("$HOME; ls"),
	})
	r := create(t, p, "riddle", props)

	port := strconv.Itoa(int(r.Properties["port"].NumberValue()))
	proc := fmt.Sprintf("/proc/%d/", pid(r.Properties))
	args := fields(t, proc+"cmdline")[1:]
	if diff := cmp.Diff([]string{"--listen=:" + port, "$HOME; ls"}, args); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, v := range fields(t, proc+"environ") {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
		if name == "URL" && v != "URL=tcp://localhost:"+port+"/" {
			t.Error(v)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"MAYFLY_MARKER", "PATH", "PORT", roleVariable, "URL"}, names); diff != "" {
		t.Error(diff)
	}
	if !r.Properties["env"].ContainsSecrets() {
		t.Error("the secret in the environment is none any more in the outputs")
	}
}

func fields(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

func TestCreateFiles(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	self, err := os.Executable()
	ok(t, err)
	source := filepath.Join(t.TempDir(), "copy")
	content, err := os.ReadFile(self)
	ok(t, err)
	ok(t, os.WriteFile(source, content, 0o600)) // as a registry leaves it: not executable
	program, err := asset.FromPath(source)
	ok(t, err)
	script, err := asset.FromText("#!/bin/sh\n")
	ok(t, err)
	props := with(role("serve"), "command", resource.NewProperty("./bin/service"))
	props["files"] = resource.NewProperty(resource.PropertyMap{
		"bin/service": resource.NewProperty(program),
		"flag.txt":    resource.MakeSecret(resource.NewProperty(script)),
	})
	r := create(t, p, "riddle", props)

	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid(r.Properties)))
	ok(t, err)
	for name, want := range map[string]string{"bin/service": "-rwxr-xr-x", "flag.txt": "-rw-r--r--"} {
		info, err := os.Stat(filepath.Join(cwd, name))
		if err != nil || info.Mode().String() != want {
			t.Errorf("%s: %v %v, want %s", name, info, err, want)
		}
	}
}

func TestCreateFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		props resource.PropertyMap
		want  []string
	}{
		"ends at once": {role("exit"), []string{"ended before it was ready", "exit status 3", "no riddle today"}},
		"never answers": {with(role("silent"), "readyTimeout", resource.NewProperty(5.0)), // time to start and to say so
			[]string{"does not answer on port", "after 5s", "I shall not listen"}},
		"not a program": {resource.PropertyMap{"command": resource.NewProperty("/proc/version")}, []string{"not executable"}},
		"not there":     {resource.PropertyMap{"command": resource.NewProperty("/no/such")}, []string{"no such file"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := newProvider(t, process.Options{Directory: dir})
			_, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn(identity, "riddle"), Properties: tc.props})
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want %q in it", err, want)
				}
			}
			if ids := identities(t, dir); len(ids) > 0 {
				t.Errorf("left: %v", ids)
			}
			if left := carriers(t, dir); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
		})
	}
}

func TestCreateCanceled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	failed := make(chan error, 1)
	go func() {
		_, err := p.Create(t.Context(), plugin.CreateRequest{URN: urn(identity, "riddle"), Properties: role("silent")})
		failed <- err
	}()
	eventually(t, "the program runs", func() bool { return len(carriers(t, dir)) > 0 })
	ok(t, p.SignalCancellation(t.Context()))
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error = %v", err)
	}
	if left := carriers(t, dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

func TestCreatePreview(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	r, err := p.Create(t.Context(), plugin.CreateRequest{
		URN: urn(identity, "riddle"), Properties: role("serve"), Preview: true,
	})
	if err != nil || !r.Properties["address"].IsComputed() || !r.Properties["port"].IsComputed() {
		t.Errorf("preview = %v, %v", r, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir, MaxOutput: 64 << 10})
	r := create(t, p, "riddle", role("noisy"))
	if greeting(t, r.Properties) == "" {
		t.Error("a program that printed too much does not work")
	}
	info, err := os.Stat(filepath.Join(dir, string(r.ID), "output.log"))
	if err != nil || info.Size() != 64<<10 {
		t.Errorf("log: %v %v, want %d bytes", info, err, 64<<10)
	}
}

func TestCountIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const limit, callers = 2, 6
	errs := make(chan error, callers)
	for i := range callers {
		p := newProvider(t, process.Options{Directory: dir, MaxProcesses: limit})
		go func() {
			_, err := p.Create(t.Context(), plugin.CreateRequest{
				URN: urn(identity, fmt.Sprint("riddle", i)), Properties: role("serve"),
			})
			errs <- err
		}()
	}
	var refused int
	for range callers {
		if err := <-errs; ctf.ReasonOf(err) == ctf.ReasonExhausted {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != callers-limit {
		t.Errorf("%d were refused, want %d", refused, callers-limit)
	}
}
