package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// memoryBound is what the server may take in all, in MiB, whatever programs
// do. Under the race detector it is several times of what it is else.
const memoryBound = 250

// misdeeds are what programs do wrong, and what their author is told. Their
// time limit is 15 s and their memory limit 256 MiB.
var misdeeds = map[string]string{
	"error":          "there is no cheese",
	"exit":           "the program ended with exit status 1: the cheese shop is closed",
	"panic":          "the program panicked: assignment to entry in nil map",
	"hang":           "the program did not end within its time limit of 15s",
	"print-and-exit": "that was all the cheese",
	"allocate":       "the program ran out of memory, it may use 256 MiB",
	"number":         "output connection_info: must be a string and is a number",
	"escape":         "my children will go on",
}

// TestBadScenario has programs misbehave, first when a challenge is registered
// and then when an instance is deployed and its process runs already. Each
// time the author is told why, nothing is stored and nothing goes on running,
// and the next request works.
func TestBadScenario(t *testing.T) {
	url := redistest.Start(t)
	s := newServer(t, "REDIS_URL="+url, "LOG_LEVEL=warn", "SCENARIO_TIMEOUT=15s", "SCENARIO_MEMORY=256", "TICK=1h", "RECONCILE=1h")
	s.Start()
	reference := pushMisbehaving(t, s, "misbehaving:1")
	create := func(id, phase, how string) reply {
		answer, err := s.Call(t.Context(), http.MethodPost, "/challenge", map[string]any{
			"id": id, "scenario": reference, "additional": map[string]string{phase: how},
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for how, words := range misdeeds {
		t.Run("preview "+how, func(t *testing.T) {
			before := keysIn(t, url)
			answer := create("preview-"+how, "preview", how)
			wantFailure(t, answer, http.StatusBadRequest, "SCENARIO_NON_MATCHING_SPECIFICATION", words)
			if diff := cmp.Diff(before, keysIn(t, url)); diff != "" {
				t.Errorf("it left in Redis (-before +after)\n%s", diff)
			}
			wantNothingRunning(t, s)
		})
	}
	for how, words := range misdeeds {
		t.Run("up "+how, func(t *testing.T) {
			id := "up-" + how
			if answer := create(id, "up", how); answer.Status != http.StatusOK {
				t.Fatal(answer.Raw)
			}
			defer s.Must(http.MethodDelete, "/challenge/"+id, nil)
			before := keysIn(t, url)
			wanted := map[string]any{"challengeId": id, "sourceId": "1"}
			answer, err := s.Call(t.Context(), http.MethodPost, "/instance", wanted)
			if err != nil {
				t.Fatal(err)
			}
			wantFailure(t, answer, http.StatusInternalServerError, "DEPLOYMENT_FAILED", words)
			if diff := cmp.Diff(before, keysIn(t, url)); diff != "" {
				t.Errorf("it left in Redis (-before +after)\n%s", diff)
			}
			if answer, err := s.Call(t.Context(), http.MethodGet, "/instance/"+id+"/1", nil); err != nil || answer.Status != http.StatusNotFound {
				t.Errorf("the instance is there: %v %s", err, answer.Raw)
			}
			wantNothingRunning(t, s)

			wanted["additional"] = map[string]string{"up": ""}
			answers(t, s.Must(http.MethodPost, "/instance", wanted).ConnectionInfo)
		})
	}
	t.Run("100 MB printed do no harm", func(t *testing.T) {
		if answer := create("print", "up", "print"); answer.Status != http.StatusOK {
			t.Fatal(answer.Raw)
		}
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "print", "sourceId": "1"})
		s.Must(http.MethodDelete, "/challenge/print", nil)
		wantNothingRunning(t, s)
	})
	for _, pid := range append(s.Workers(), s.cmd.Process.Pid) {
		if peak := peakMemory(t, pid); peak > memoryBound {
			t.Errorf("process %d of the server took %d MiB", pid, peak)
		} else {
			t.Logf("process %d took %d MiB at its peak", pid, peak)
		}
	}
}

// pushMisbehaving pushes the scenario that misbehaves when told to.
func pushMisbehaving(t *testing.T, s *server, name string) string {
	t.Helper()
	return pushTo(t, s.Registry, name, scenarioFiles(t, "testdata/misbehaving"))
}

func serviceFiles(t *testing.T) map[string][]byte {
	t.Helper()
	return scenarioFiles(t, "testdata/service/scenario")
}

// scenarioFiles are the files of a scenario of the small service, whose program
// is in dir.
func scenarioFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"Pulumi.yaml": []byte("name: service\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
		"main":        read(t, build(t, dir, "-ldflags=-s -w")),
		"program":     read(t, build(t, "testdata/service/program", "-ldflags=-s -w")),
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// pushTo pushes files to a registry and returns the reference.
func pushTo(t testing.TB, registry, name string, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	reference := registry + "/" + name
	if _, err := scenario.Push(t.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{registry}}); err != nil {
		t.Fatal(err)
	}
	return reference
}

// wantFailure fails the test unless the answer is of this reason, and says what
// an author understands and nothing else.
func wantFailure(t *testing.T, answer reply, status int, reason, words string) {
	t.Helper()
	if answer.Status != status || answer.Reason() != reason {
		t.Fatalf("%d %s, want %d %s: %s", answer.Status, answer.Reason(), status, reason, answer.Raw)
	}
	if !strings.Contains(answer.Raw, words) {
		t.Errorf("it does not say %q: %s", words, answer.Raw)
	}
	if inside := slices.IndexFunc(insides, func(word string) bool { return strings.Contains(answer.Raw, word) }); inside >= 0 {
		t.Errorf("it says %q, which is nothing for an author: %s", insides[inside], answer.Raw)
	}
}

// insides are what no author wants to know.
var insides = []string{
	"goroutine ", "rpc error", "urn:", ".go:", "pulumi up", "/proc", "marshal", "runtime.", "context ", "0x",
	"an unhandled error", "update failed", "waiting for RPCs", "monitor",
}

// wantNothingRunning fails the test if a program of a scenario or a process of
// an instance runs.
func wantNothingRunning(t *testing.T, s *server) {
	t.Helper()
	if left := s.processes(); len(left) != 0 {
		t.Errorf("processes of instances run: %v", left)
	}
	if left := processesIn(filepath.Join(s.Dir, "cache")); len(left) != 0 {
		t.Errorf("programs of scenarios run: %v", left)
	}
}

// processesIn returns the pids of all processes whose working directory is
// below dir.
func processesIn(dir string) []int {
	var found []int
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, dir) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// peakMemory returns how many MiB a process held at most.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status := string(read(t, fmt.Sprintf("/proc/%d/status", pid)))
	_, after, _ := strings.Cut(status, "VmHWM:")
	text, _, _ := strings.Cut(after, "kB")
	kilobytes, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes >> 10
}

// keysIn returns every key in Redis that holds state, by its content. Hints
// and the outbox may name too much for a while.
func keysIn(t *testing.T, url string) map[string]string {
	t.Helper()
	client := openRedis(t, url)
	content := map[string]string{}
	all := client.Scan(t.Context(), 0, "*", 1000).Iterator()
	for all.Next(t.Context()) {
		key := all.Val()
		if key == "mayfly:due" || strings.HasPrefix(key, "mayfly:source:") || strings.HasSuffix(key, "}:o") || strings.Contains(key, "}:t:") {
			continue
		}
		dump, err := client.Dump(t.Context(), key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		content[key] = dump
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return content
}

func openRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}
