package main_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const (
	// soakCycles are what a test of minutes has time for; make soak makes more.
	soakCycles = 300
	// soakSamples are how many times it is looked what Mayfly uses.
	soakSamples = 10
	soakClients = 4
	// soakPatience is longer than what leads to the instances of a source stays after them.
	soakPatience = 3 * time.Minute
	// A worker may keep a file of each of its operations, of which there are 50 before
	// it is replaced; and so many bytes, without the race detector.
	soakWorkerFiles  = 80
	soakWorkerMemory = 160 << 20
)

// A footprint is what a server holds of the machine and of Redis.
type footprint struct {
	goroutines, files, workers int
	heap, resident, disk       int // bytes
	workerFiles, workerMemory  int // of the worker that has most, and bytes
	keys, redis                int // how many, and bytes
}

// over tells what is more than it was, beyond what comes and goes: little, against
// what one leak in each cycle would leave. What the kernel counts as memory grows
// until all was done a few times: in a long run alone it says something.
func (u footprint) over(before footprint, long bool) (more []string) {
	const mb = 1 << 20
	memorySpared := 16 * mb
	if !long {
		memorySpared = math.MaxInt / 2
	}
	for _, m := range []struct {
		what             string
		now, was, spared int
	}{
		{"goroutines", u.goroutines, before.goroutines, 20},
		{"open files", u.files, before.files, 20},
		{"workers", u.workers, before.workers, 2},
		{"bytes of heap", u.heap, before.heap, 16 * mb}, // as it is between two collections
		{"bytes of memory", u.resident, before.resident, memorySpared},
		{"bytes on disk", u.disk, before.disk, mb / 4},
		{"keys of Redis", u.keys, before.keys, 8},
		{"bytes of Redis", u.redis, before.redis, mb / 2},
	} {
		if m.now > m.was+m.spared {
			more = append(more, fmt.Sprintf("%d %s, were %d", m.now, m.what, m.was))
		}
	}
	return more
}

// TestSoak creates, renews and deletes instances again and again, each for another
// source, and challenges now and then. In the end Mayfly holds no more than it did
// at the beginning, when it had done each for the second time.
func TestSoak(t *testing.T) {
	t.Parallel()
	cycles, text := soakCycles, os.Getenv("SOAK_CYCLES")
	if text != "" {
		var err error
		if cycles, err = strconv.Atoi(text); err != nil || cycles < soakSamples {
			t.Fatalf("SOAK_CYCLES: %q is no number of cycles of at least %d", text, soakSamples)
		}
	}
	url, scratch := redistest.Start(t), t.TempDir()
	s := newServer(t, "LOG_LEVEL=warn", "RECONCILE=1h", "REDIS_URL="+url, "TMPDIR="+scratch)
	s.Start()
	service := pushService(t, s, "service:1")
	plain := pushTo(t, s.Registry, "plain:1", map[string][]byte{
		"Pulumi.yaml": []byte("name: plain\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
		"main":        read(t, build(t, "../../../shared/apitest/testdata/programs/plain", "-ldflags=-s -w")),
	})
	var first footprint
	for sample := range soakSamples {
		challenges := map[string]string{fmt.Sprint("plain-", sample): plain, fmt.Sprint("service-", sample): service}
		for id, reference := range challenges {
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": reference, "timeout": "3600s"})
		}
		s.soak(t, sample, cycles/soakSamples)
		for id := range challenges {
			s.Must(http.MethodDelete, "/challenge/"+id, nil)
		}
		now := s.footprint(t, url, scratch)
		t.Logf("%6d cycles: %+v", (sample+1)*(cycles/soakSamples), now)
		if now.workerFiles > soakWorkerFiles || text != "" && now.workerMemory > soakWorkerMemory {
			t.Errorf("a worker has %d files open and %d bytes of memory", now.workerFiles, now.workerMemory)
		}
		if sample < 2 {
			first = now
		}
	}
	eventuallyIn(t, soakPatience, "it holds no more than at the beginning", func() error {
		if more := s.footprint(t, url, scratch).over(first, text != ""); len(more) > 0 {
			return fmt.Errorf("%s", strings.Join(more, "; "))
		}
		return nil
	})
	wantNothingRunning(t, s)
	for _, dir := range []string{scratch, filepath.Join(s.Dir, "data", "instances"), filepath.Join(s.Dir, "data", "scratch")} {
		left, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
		if err != nil || len(left) > 0 {
			t.Errorf("these are left: %v %v", left, err)
		}
	}
}

// soak makes cycles, of which one in ten is of an instance with a process.
func (s *server) soak(t *testing.T, sample, cycles int) {
	t.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for range soakClients {
		group.Go(func() {
			for n := next.Add(1); n <= int64(cycles) && !t.Failed(); n = next.Add(1) {
				source, challenge := fmt.Sprintf("team-%d-%d", sample, n), fmt.Sprint("plain-", sample)
				if n%10 == 0 {
					challenge = fmt.Sprint("service-", sample)
				}
				path := "/instance/" + challenge + "/" + source
				for _, call := range []struct {
					method, path string
					body         any
				}{
					{http.MethodPost, "/instance", map[string]any{"challengeId": challenge, "sourceId": source}},
					{http.MethodPatch, path, map[string]any{}},
					{http.MethodDelete, path, nil},
				} {
					if answer, err := s.Call(t.Context(), call.method, call.path, call.body); err != nil || answer.Status != http.StatusOK {
						t.Errorf("%s %s: %v %d %s", call.method, call.path, err, answer.Status, answer.Raw)
					}
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// footprint looks what a server holds now.
func (s *server) footprint(t *testing.T, redis string, directories ...string) footprint {
	t.Helper()
	var report struct {
		System struct {
			Goroutines int `json:"goroutines_count"`
			Heap       int `json:"alloc_bytes"`
		} `json:"system"`
	}
	response, err := http.Get(s.URL + "/healthcheck")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	workers := s.Workers()
	u := footprint{
		goroutines: report.System.Goroutines, heap: report.System.Heap,
		files: len(files), workers: len(workers), resident: memory(s.cmd.Process.Pid, "VmRSS"),
	}
	for _, pid := range workers {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // it may be gone, and only root may look
		u.workerFiles, u.workerMemory = max(u.workerFiles, len(files)), max(u.workerMemory, memory(pid, "VmRSS"))
	}
	for _, dir := range append(directories, s.Dir) {
		u.disk += diskUse(t, dir)
	}
	u.keys, u.redis = redisUse(t, redis)
	return u
}

// diskUse is how many bytes the files below a directory hold. What goes meanwhile
// holds none.
func diskUse(t *testing.T, dir string) (bytes int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // it went meanwhile
		}
		if info, err := e.Info(); err == nil {
			bytes += int(info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// redisUse is how many keys there are that stay, and how many bytes are used.
func redisUse(t *testing.T, url string) (keys, bytes int) {
	t.Helper()
	options, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	info, err := client.InfoMap(t.Context(), "memory", "keyspace").Result()
	if err != nil {
		t.Fatal(err)
	}
	if bytes, err = strconv.Atoi(info["Memory"]["used_memory"]); err != nil {
		t.Fatal(err)
	}
	expiring := 0
	if _, err = fmt.Sscanf(info["Keyspace"]["db0"], "keys=%d,expires=%d", &keys, &expiring); err != nil {
		t.Fatalf("the key space is %v: %v", info["Keyspace"], err)
	}
	return keys - expiring, bytes
}
