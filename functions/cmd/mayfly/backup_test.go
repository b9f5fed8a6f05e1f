package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestDrill loses Redis while teams play, and gets back what was backed up: the
// same addresses, flags and ends, under management again.
func TestDrill(t *testing.T) {
	t.Parallel()
	s := newServer(t, append(quiet, "ORPHAN_GRACE=0s")...)
	s.Start()
	riddle := pushRiddle(t, s)
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "riddle", "scenario": riddle, "timeout": "3600s", "min": 1})
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "endless", "scenario": riddle})
	before := map[string]seen{}
	for _, path := range []string{"riddle/team-1", "riddle/team-2", "riddle/team-3", "endless/team-1"} {
		before[path] = s.createAt(path)
	}
	eventually(t, "the pool is filled", func() error {
		if n := len(s.processes()); n != len(before)+1 {
			return fmt.Errorf("%d processes run", n)
		}
		return nil
	})
	file, key := filepath.Join(t.TempDir(), "backup"), writeFile(t, []byte(redis.NewKey()+"\n"))
	s.mayfly(nil, "backup", file, "--key-file", key)
	known := s.processes()
	s.createAt("endless/team-2")
	claimed := s.createAt("riddle/team-4") // which is in the backup, and nobody's there
	var unknown map[string][]int           // but the ones known: nobody will know of them
	eventually(t, "the pool is filled again", func() error {
		unknown = s.processes()
		maps.DeleteFunc(unknown, func(identity string, _ []int) bool { return known[identity] != nil })
		if len(unknown) != 2 {
			return fmt.Errorf("%d processes are new", len(unknown))
		}
		return nil
	})
	s.Must(http.MethodDelete, "/instance/riddle/team-3", nil)

	s.Stop()
	if err := os.RemoveAll(filepath.Join(s.Dir, "data", "redis")); err != nil {
		t.Fatal(err)
	}
	s.mayfly(nil, "restore", file, "--key-file", key)
	s.Start()

	other := s.createAt("riddle/team-5")
	if other.Flags[0] == claimed.Flags[0] {
		t.Error("one team gets what another has played: it was in the pool at the backup, and claimed since")
	}
	solve(t, other)
	for path, want := range before {
		now := s.look(path)
		if path == "riddle/team-3" { // its record is back, and nothing runs until reconcile has made it anew
			now.ConnectionInfo = want.ConnectionInfo
		} else {
			solve(t, want)
		}
		if d := cmp.Diff(want, now); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	s.Must(http.MethodPatch, "/instance/riddle/team-1", map[string]any{})
	if renewed := s.look("riddle/team-1"); !renewed.Until.After(*before["riddle/team-1"].Until) {
		t.Errorf("it is renewed until %v, and ended at %v", renewed.Until, before["riddle/team-1"].Until)
	}
	s.Tick("/reconcile")
	s.Must(http.MethodDelete, "/instance/riddle/team-2", nil)
	running := s.processes()
	for identity := range unknown {
		if pids := running[identity]; len(pids) > 0 {
			t.Errorf("%v of %s, which was created after the backup, run on", pids, identity)
		}
	}
	if want := len(before) + 1; len(running) != want { // without the deleted one, with that of team-5 and one in the pool
		t.Errorf("%d instances run, want %d", len(running), want)
	}
	if play(claimed) == nil {
		t.Error("what was claimed after the backup is played on")
	}
	solve(t, s.createAt("riddle/team-2"))
	s.Must(http.MethodDelete, "/challenge/riddle", nil)
	s.Must(http.MethodDelete, "/challenge/endless", nil)
	wantNothingRunning(t, s)
	s.Stop()
}

// TestBackupWhileRunning: it is taken from another process' Redis, or from none
// that runs, and says what it can't do.
func TestBackupWhileRunning(t *testing.T) {
	t.Parallel()
	s := newServer(t, quiet...)
	s.wantRefused("no Mayfly keeps anything in", "backup", "-")
	s.wantRefused("put them back as", "restore", os.DevNull)
	s.Start()
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": pushService(t, s, "service:1")})
	running := s.mayfly(nil, "backup", "-")
	s.Stop()
	stopped := s.mayfly(nil, "backup", "-")
	if a, b := bytes.Count(running, []byte("\n")), bytes.Count(stopped, []byte("\n")); a != 3 || b != 3 {
		t.Errorf("the backups have %d and %d lines, want 3", a, b)
	}

	url := redistest.Start(t)
	keys := "MAYFLY_KEYS=" + string(read(t, filepath.Join(s.Dir, "data", "keys")))
	other := newServer(t, append(quiet, "REDIS_URL="+url, keys)...)
	other.mayfly(running, "restore", "-")
	other.Start()
	other.Must(http.MethodGet, "/challenge/1", nil)
	other.Stop()
	s.wantRefused("in use by the installation", "restore", writeFile(t, running))
	s.wantRefused("must be given as id:key", "backup", "-", "--key-file", writeFile(t, []byte("secret")))
	s.wantRefused("leave the key out", "restore", writeFile(t, running), "--key-file", writeFile(t, []byte(redis.NewKey())))
	if err := os.Remove(filepath.Join(s.Dir, "data", "keys")); err != nil {
		t.Fatal(err)
	}
	s.wantRefused("put them back as", "restore", writeFile(t, running))
}

// A seen is what a team sees of its instance.
type seen struct {
	ConnectionInfo string     `json:"connectionInfo"`
	Flags          []string   `json:"flags"`
	Since          time.Time  `json:"since"`
	Until          *time.Time `json:"until"`
}

func (i seen) address() string {
	return strings.ReplaceAll(strings.TrimPrefix(i.ConnectionInfo, "nc "), " ", ":")
}

// createAt creates the instance CHALLENGE/SOURCE.
func (s *server) createAt(path string) seen {
	s.tb.Helper()
	challenge, source, _ := strings.Cut(path, "/")
	s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": challenge, "sourceId": source})
	return s.look(path)
}

func (s *server) look(path string) seen {
	s.tb.Helper()
	var i seen
	if err := json.Unmarshal([]byte(s.Must(http.MethodGet, "/instance/"+path, nil).Raw), &i); err != nil {
		s.tb.Fatal(err)
	}
	return i
}

// mayfly runs a command with the environment of the server, and returns what it
// writes.
func (s *server) mayfly(in []byte, args ...string) []byte {
	s.tb.Helper()
	cmd := s.commandLine(args...)
	cmd.Stdin = bytes.NewReader(in)
	var diagnostics bytes.Buffer
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	if err != nil {
		s.tb.Fatalf("mayfly %v: %v\n%s", args, err, &diagnostics)
	}
	return out
}

func (s *server) commandLine(args ...string) *exec.Cmd {
	cmd := exec.Command(build(s.tb, ".", raceFlag), args...)
	cmd.Env = s.env
	return cmd
}

func (s *server) wantRefused(words string, args ...string) {
	s.tb.Helper()
	out, err := s.commandLine(args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), words) {
		s.tb.Errorf("mayfly %v: %v, and it does not say %q:\n%s", args, err, words, out)
	}
}

// solve plays the riddle, and fails the test unless that gives the flag.
func solve(t *testing.T, i seen) {
	t.Helper()
	if err := play(i); err != nil {
		t.Error(err)
	}
}

// play plays the riddle. It returns an error unless that gives the flag.
func play(i seen) error {
	connection, err := net.Dial("tcp", i.address())
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Fprintln(connection, "mayfly")
	var said []string
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		said = append(said, lines.Text())
	}
	if !slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, i.Flags[0]) }) {
		return fmt.Errorf("the flag is %q, and it says %q", i.Flags, said)
	}
	return nil
}

// pushRiddle pushes the example and returns its reference.
func pushRiddle(t *testing.T, s *server) string {
	t.Helper()
	example := filepath.Join(examples, "riddle")
	return pushTo(t, s.Registry, "riddle:1", map[string][]byte{
		"Pulumi.yaml": read(t, filepath.Join(example, "Pulumi.yaml")),
		"scenario":    read(t, build(t, example, "-ldflags=-s -w")),
		"service":     read(t, build(t, filepath.Join(example, "service"), "-ldflags=-s -w")),
	})
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
