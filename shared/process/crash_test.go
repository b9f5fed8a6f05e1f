package process_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	"github.com/mayfly-ctf/mayfly/shared/process"
)

// startMayfly starts a process that creates programs, and returns a function
// that waits until it has said a word so many times.
func startMayfly(t *testing.T, dir string) (cmd *exec.Cmd, said func(word string, times int)) {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"=mayfly", "TEST_DIRECTORY="+dir)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	lines := bufio.NewScanner(out)
	return cmd, func(word string, times int) {
		for times > 0 && lines.Scan() {
			if lines.Text() == word {
				times--
			} else if text := lines.Text(); text != "creating" && text != "created" {
				t.Error(text)
			}
		}
	}
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

func TestProgramSurvivesMayfly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, said := startMayfly(t, dir)
	said("created", 1)
	kill(t, cmd)

	p := newProvider(t, process.Options{Directory: dir})
	r, err := p.Read(t.Context(), plugin.ReadRequest{URN: urn("5eed5eed5eed5eed", "program-0"), Inputs: role("serve")})
	ok(t, err)
	if r.ID == "" || greeting(t, r.Outputs) != fmt.Sprintf("hello from %d\n", pid(r.Outputs)) {
		t.Fatalf("read = %+v", r)
	}
	_, err = p.Delete(t.Context(), plugin.DeleteRequest{
		URN: urn("5eed5eed5eed5eed", "program-0"), ID: r.ID, Outputs: r.Outputs,
	})
	if err != nil || running(pid(r.Outputs)) {
		t.Errorf("delete: %v, it runs: %v", err, running(pid(r.Outputs)))
	}
}

// unrecord takes back what was recorded after the start, as if Mayfly had been
// killed between the two.
func unrecord(t *testing.T, dir string, id resource.ID) {
	t.Helper()
	path := filepath.Join(dir, string(id), "record.json")
	text, err := os.ReadFile(path)
	ok(t, err)
	rec := make(map[string]any)
	ok(t, json.Unmarshal(text, &rec))
	delete(rec, "pid")
	delete(rec, "start")
	text, err = json.Marshal(rec)
	ok(t, err)
	ok(t, os.WriteFile(path, text, 0o600))
}

func TestKilledAfterFork(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, program string) (*process.Provider, plugin.CreateResponse) {
		dir := t.TempDir()
		p := newProvider(t, process.Options{Directory: dir})
		r := create(t, p, "riddle", role(program))
		unrecord(t, dir, r.ID)
		return p, r
	}
	t.Run("read_adopts", func(t *testing.T) {
		t.Parallel()
		p, r := setup(t, "serve")
		got := read(t, p, "riddle", "", role("serve"), nil)
		if got.ID != r.ID || !got.Outputs.DeepEquals(r.Properties) {
			t.Errorf("read = %v, want %v", got.Outputs, r.Properties)
		}
	})
	t.Run("create_replaces", func(t *testing.T) {
		t.Parallel()
		p, r := setup(t, "serve")
		again := create(t, p, "riddle", role("serve"))
		if running(pid(r.Properties)) || greeting(t, again.Properties) == "" {
			t.Errorf("first: %v, second: %v", r.Properties, again.Properties)
		}
	})
	t.Run("delete_finds_it", func(t *testing.T) {
		t.Parallel()
		p, r := setup(t, "family")
		remove(t, p, "riddle", plugin.CreateResponse{})
		if running(pid(r.Properties)) {
			t.Error("it still runs")
		}
	})
	t.Run("read_stops_what_never_answers", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := newProvider(t, process.Options{Directory: dir})
		go func() { // ends with the provider
			_, _ = p.Create(t.Context(), plugin.CreateRequest{URN: urn(identity, "riddle"), Properties: role("silent")})
		}()
		eventually(t, "the program runs", func() bool { return len(carriers(t, dir)) > 0 })
		impatient := with(role("silent"), "readyTimeout", resource.NewProperty(0.1))
		if got := read(t, p, "riddle", "", impatient, nil); got.ID != "" || len(carriers(t, dir)) > 0 {
			t.Errorf("read = %v", got)
		}
	})
}

func TestKilledBeforeFork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("serve"))
	record, err := os.ReadFile(filepath.Join(dir, string(r.ID), "record.json"))
	ok(t, err)
	remove(t, p, "riddle", r)
	ok(t, os.MkdirAll(filepath.Join(dir, string(r.ID), "work"), 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, string(r.ID), "record.json"), record, 0o600))
	unrecord(t, dir, r.ID)

	if got := read(t, p, "riddle", "", role("serve"), nil); got.ID != "" {
		t.Errorf("read = %v", got)
	}
	if ids := identities(t, dir); len(ids) > 0 {
		t.Errorf("left: %v", ids)
	}
}

// Mayfly dies when its child is not the program yet, but will be: whoever comes
// next waits for that.
func TestKilledBeforeExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	r := create(t, p, "riddle", role("serve"))
	record, err := os.ReadFile(filepath.Join(dir, string(r.ID), "record.json"))
	ok(t, err)
	environ := fields(t, fmt.Sprintf("/proc/%d/environ", pid(r.Properties)))
	remove(t, p, "riddle", r)
	ok(t, os.MkdirAll(filepath.Join(dir, string(r.ID), "work"), 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, string(r.ID), "record.json"), record, 0o600))
	unrecord(t, dir, r.ID)
	starting, err := os.Create(filepath.Join(dir, string(r.ID), "starting"))
	ok(t, err)
	ok(t, syscall.Flock(int(starting.Fd()), syscall.LOCK_EX))

	found := make(chan plugin.ReadResponse, 1)
	go func() {
		got, err := p.Read(t.Context(), plugin.ReadRequest{URN: urn(identity, "riddle"), Inputs: role("serve")})
		if err != nil {
			t.Error(err)
		}
		found <- got
	}()
	select {
	case got := <-found:
		t.Errorf("it did not wait: %v", got)
	case <-time.After(100 * time.Millisecond):
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Dir = environ, filepath.Join(dir, string(r.ID), "work")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ok(t, cmd.Start())
	go func() { _ = cmd.Wait() }()
	ok(t, starting.Close())
	if got := <-found; got.ID != r.ID || pid(got.Outputs) != cmd.Process.Pid {
		t.Errorf("found %v, want %d", got, cmd.Process.Pid)
	}
	ok(t, p.Sweep(t.Context(), identity))
	if running(cmd.Process.Pid) {
		t.Error("it runs after the sweep")
	}
}

func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	random := rand.New(rand.NewPCG(1, 2))
	for range 15 {
		cmd, said := startMayfly(t, dir)
		said("creating", 1+random.IntN(2))
		<-time.After(time.Duration(random.IntN(40)) * time.Millisecond)
		kill(t, cmd)
		// What runs now is found again by its URN alone, or stopped.
		found := make(map[string]bool)
		begun, _ := os.ReadDir(filepath.Join(dir, "5eed5eed5eed5eed"))
		for i := range begun {
			r, err := p.Read(t.Context(), plugin.ReadRequest{
				URN: urn("5eed5eed5eed5eed", fmt.Sprintf("program-%d", i)), Inputs: role("serve"),
			})
			ok(t, err)
			if r.ID != "" {
				found[fmt.Sprint(pid(r.Outputs))] = true
			}
		}
		for _, c := range carriers(t, dir) {
			if !found[c] {
				t.Errorf("process %s runs and nobody knows", c)
			}
		}
		ok(t, p.Sweep(t.Context(), "5eed5eed5eed5eed"))
		if left := carriers(t, dir); len(left) > 0 {
			t.Fatalf("still running after the sweep: %v", left)
		}
	}
}
