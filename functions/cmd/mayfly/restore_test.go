package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestRestoreKilled kills a restore before each of its commands to Redis in turn.
// A Mayfly that is started on what is there by then does not begin to work, and
// what runs goes on. The restore that follows has all that was backed up, and
// what was in the pool is destroyed and made anew.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t)
	s := newServer(t, append(quiet, "ORPHAN_GRACE=0s", "REDIS_URL="+url)...)
	s.Start()
	riddle := pushRiddle(t, s)
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "riddle", "scenario": riddle, "timeout": "3600s", "min": 1})
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "endless", "scenario": riddle})
	before := map[string]seen{}
	for _, path := range []string{"riddle/team-1", "riddle/team-2", "endless/team-1"} {
		before[path] = s.createAt(path)
	}
	wantRunning := func(when string) {
		t.Helper()
		eventually(t, when, func() error {
			if n := len(s.processes()); n != len(before)+1 {
				return fmt.Errorf("%d processes run, want %d and one in the pool", n, len(before))
			}
			return nil
		})
	}
	wantRunning("the pool is filled")
	file := filepath.Join(t.TempDir(), "backup")
	s.mayfly(nil, "backup", file)
	s.Stop()
	want, running := s.recorded(), s.processes()

	for commands := int64(0); ; commands++ {
		named := empty(t, url)
		if !s.killRestore(url, file, commands) {
			if commands < 20 {
				t.Errorf("it took %d commands: this shows too little", commands)
			}
			break
		}
		if named() {
			s.wantNotBegun()
		}
		wantRunning(fmt.Sprintf("after %d commands", commands))
		s.mayfly(nil, "restore", file)
		if d := cmp.Diff(want, s.recorded()); d != "" {
			t.Fatalf("after %d commands, and again: %s", commands, d)
		}
	}

	s.Start()
	s.Tick("/reconcile")
	wantRunning("after a reconcile")
	old := s.processes()
	maps.DeleteFunc(old, func(identity string, _ []int) bool { return running[identity] == nil })
	if len(old) != len(before) {
		t.Errorf("%d instances run on, want the %d that sources hold", len(old), len(before))
	}
	for path, want := range before {
		if d := cmp.Diff(want, s.look(path)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
		solve(t, want)
	}
	s.Must(http.MethodDelete, "/challenge/riddle", nil)
	s.Must(http.MethodDelete, "/challenge/endless", nil)
	wantNothingRunning(t, s)
	s.Stop()
}

// empty removes all from a Redis. What it returns tells whether that is an
// installation again, or about to be one.
func empty(t *testing.T, url string) (named func() bool) {
	t.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return func() bool { return client.Exists(t.Context(), "mayfly:installation").Val() > 0 }
}

// killRestore restores and kills that once so many commands got to Redis. It
// returns false if it took no more.
func (s *server) killRestore(url, file string, commands int64) bool {
	s.tb.Helper()
	var cmd *exec.Cmd
	started := make(chan struct{})
	at := redistest.Mortal(s.tb, url, commands, func() {
		<-started
		_ = cmd.Process.Kill() // it is there, waiting for the answer
	})
	cmd = s.commandLine("restore", file, "--redis-url", at)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	close(started)
	err := cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && status.Signal() != syscall.SIGKILL {
		s.tb.Fatalf("the restore failed before it was killed: %v\n%s", err, &said)
	}
	return err != nil
}

// wantNotBegun fails the test unless a Mayfly refuses to work with a Redis into
// which a backup is being restored.
func (s *server) wantNotBegun() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(s.tb, ".", programFlags()...), "run")
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "A backup is being restored") {
		s.tb.Fatalf("it runs: %v\n%s", err, out)
	}
}

// recorded is all that a backup has, sorted, save what differs from one to the
// next: the header, the checksum, numbers that go on elsewhere, and the pool,
// which a restore does not bring back.
func (s *server) recorded() []string {
	s.tb.Helper()
	lines := bytes.Split(bytes.TrimSpace(s.mayfly(nil, "backup", "-")), []byte("\n"))
	var all []string
	for _, line := range lines[1 : len(lines)-1] {
		var parts map[string]map[string]any
		if err := json.Unmarshal(line, &parts); err != nil {
			s.tb.Fatalf("%v in %s", err, line)
		}
		for _, part := range parts {
			record, _ := part["record"].(map[string]any)
			for _, name := range []string{"fence", "revision"} {
				delete(record, name)
			}
			for _, name := range []string{"pooled", "deleting"} {
				delete(part, name)
			}
		}
		if i := parts["instance"]; i != nil && i["record"].(map[string]any)["source"] == nil {
			continue
		}
		text, err := json.Marshal(parts)
		if err != nil {
			s.tb.Fatal(err)
		}
		all = append(all, string(text))
	}
	slices.Sort(all)
	return all
}
