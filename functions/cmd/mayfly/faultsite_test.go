//go:build faults

package main_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/faults"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

const (
	// leaseFor is how long leases last here, and heldUp is longer.
	leaseFor = 5 * time.Second
	heldUp   = leaseFor * 3 / 2
	// cacheSize is that of the disk that scenarios are cached on, in MiB.
	cacheSize = 256
	// clientName is how Redis knows the connections of Mayfly.
	clientName = "mayfly"
)

// A faultSite is one or more servers on one Redis, and all that they need, to be
// broken.
type faultSite struct {
	ledger

	servers  []*server
	database *redistest.Server
	link     *link
	registry *brokenRegistry
	broker   *broker
	api      *brokenAPI // nil without a cluster
	scenario string     // of all challenges
	// updating are those that somebody updates.
	updating sync.Map
	random   *rand.Rand
	began    time.Time
	deaths   []time.Duration
	updates  sync.WaitGroup
	// What is found beside what clients are told: see [faultSite.beside].
	mu       sync.Mutex
	mistakes []string
	seen     map[string]int
	// killed counts processes: workers, or those of instances.
	killed int64
}

func newFaultSite(t *testing.T, what fault, seed uint64) *faultSite {
	t.Helper()
	f := &faultSite{
		ledger: ledger{t: t, challenges: []string{challengeName(0), challengeName(1)}}, seen: map[string]int{},
		random: rand.New(rand.NewPCG(seed, 0)), registry: newBrokenRegistry(t),
		database: redistest.New(t, "--appendonly", "yes", "--appendfsync", "always"),
	}
	f.link = newLink(t, strings.TrimPrefix(f.database.URL(), "redis://"))
	f.broker = newBroker(t, func() string { return f.servers[0].URL }, rand.New(rand.NewPCG(seed, 1)))
	keys := redis.NewKey()
	f.store, f.client = openStore(t, f.database.URL(), keys), openRedis(t, f.database.URL())
	platform, files := f.place(what, seed)
	for n := range max(1, what.servers) {
		s := newServer(t, append(quiet, "REDIS_URL=redis://"+f.link.address+"?client_name="+clientName, "MAYFLY_KEYS="+keys,
			"OCI_INSECURE=true", "CREATE_WAIT="+(late/2).String(), "FAULTS_LEASE="+leaseFor.String(),
			"LOST="+cmp.Or(what.lost, "show"))...)
		s.env = append(s.env, platform...)
		if what.events {
			s.env = append(s.env, "FAULTS_SINK="+f.broker.URL)
		}
		if what.disk {
			mountCache(t, s)
		}
		instances := filepath.Join(s.Dir, "data", "instances")
		ok(t, os.MkdirAll(filepath.Dir(instances), 0o700))
		if n == 0 {
			ok(t, os.Mkdir(instances, 0o700))
		} else { // they run the same instances
			ok(t, os.Symlink(filepath.Join(f.servers[0].Dir, "data", "instances"), instances))
		}
		f.servers = append(f.servers, s)
		f.start(s)
	}
	f.scenario = pushTo(t, f.registry.address, "service:1", files)
	f.servers[0].Must(http.MethodPost, "/challenge", map[string]any{"id": mortal, "scenario": f.scenario, "timeout": lifetime.String()})
	for n, id := range f.challenges { // the second one has a pool
		f.servers[0].Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": f.scenario, "timeout": "3600s", "min": n, "max": 0})
	}
	return f
}

// place decides where instances run, and returns the settings for it and the
// scenario.
func (f *faultSite) place(what fault, seed uint64) (env []string, scenario map[string][]byte) {
	f.t.Helper()
	if !what.cluster {
		f.parts, f.running = 1, func() map[string][]string { return f.servers[0].parts() }
		return nil, serviceFiles(f.t)
	}
	f.api = newBrokenAPI(f.t, rand.New(rand.NewPCG(seed, 2)))
	namespace := f.api.cluster.Namespace()
	f.parts, f.running = cards, func() map[string][]string { return f.objects(namespace) }
	return []string{
			"KUBERNETES=true", "KUBECONFIG=" + f.api.Kubeconfig, "KUBERNETES_TARGET_NAMESPACE=" + namespace,
		}, map[string][]byte{
			"Pulumi.yaml": []byte("name: cards\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
			"main":        read(f.t, build(f.t, "testdata/cards", "-ldflags=-s -w")),
		}
}

// load is what clients do here.
func (f *faultSite) load(what fault, seed uint64) faults.Load {
	l := faults.Load{
		Clients: faultClients, Together: faultTogether, Challenges: f.challenges, Calls: faults.NumberOfCalls(f.t, faultCalls),
		Seed: seed, Leave: leaveWithin, LeaveOne: what.leaveOne(), Failing: what.failing, Began: f.began,
	}
	for _, s := range f.servers {
		l.URLs = append(l.URLs, s.URL)
	}
	return l
}

// any is one of the servers.
func (f *faultSite) any() *server { return f.servers[f.random.IntN(len(f.servers))] }

// start starts a server that can be told at which command to Redis it dies.
func (f *faultSite) start(s *server) {
	s.env = append(s.env, fmt.Sprintf("FAULTS_DIE=%d %s", 1+f.random.IntN(60), []string{"before", "after"}[f.random.IntN(2)]))
	s.Start()
}

// dieAtCommand has a server be killed at a command to Redis, and waits for it.
func (f *faultSite) dieAtCommand(s *server) {
	ok(f.t, s.cmd.Process.Signal(syscall.SIGUSR2))
	eventually(f.t, "it dies", func() error {
		if response, err := http.Get(s.URL + "/healthcheck"); err == nil { // it asks Redis
			_ = response.Body.Close()
		}
		select {
		case <-s.exited:
			return nil
		default:
			return errors.New("it lives")
		}
	})
}

// terminate ends a server as Kubernetes does.
func (f *faultSite) terminate(s *server) {
	ok(f.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(patience):
		f.t.Fatalf("mayfly does not stop:\n%s", s.log)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		f.t.Fatalf("mayfly ended with %d:\n%s", code, s.log)
	}
}

// died notes that nobody is left who knows of a call: the only server has ended,
// and Redis has done all that it was sent.
func (f *faultSite) died() {
	if len(f.servers) > 1 {
		return
	}
	eventually(f.t, "redis has done all", func() error {
		list, err := f.client.ClientList(f.t.Context()).Result()
		if err == nil && strings.Contains(list, " name="+clientName+" ") {
			err = errors.New("it is connected still")
		}
		return err
	})
	f.deaths = append(f.deaths, time.Since(f.began))
}

func (f *faultSite) redis(command ...any) {
	if err := f.client.Do(f.t.Context(), command...).Err(); err != nil {
		f.t.Errorf("%v: %v", command, err)
	}
}

// refused is how often Redis answered anybody with this error.
func (f *faultSite) refused(kind string) (times int64) {
	info, err := f.client.Info(f.t.Context(), "errorstats").Result()
	ok(f.t, err)
	if _, count, found := strings.Cut(info, "errorstat_"+kind+":count="); found {
		_, err = fmt.Sscan(count, &times)
	}
	ok(f.t, err)
	return times
}

// update has all instances of a challenge be changed, whatever comes of it, unless
// they are: whoever organizes an event waits for one update before the next.
// Instances stay with their sources: where deployments are made to fail none is
// recreated, which may fail.
func (f *faultSite) update(what fault) {
	strategies := []string{"update_in_place", "blue_green", "recreate"}
	if len(what.failing) > 0 {
		strategies = strategies[:2]
	}
	body := map[string]any{
		"additional": map[string]string{"round": strconv.Itoa(f.random.IntN(1000))}, "updateMask": "additional",
		"updateStrategy": strategies[f.random.IntN(len(strategies))],
	}
	waits := patience
	if what.leaving {
		waits = what.waits(f.random)
	}
	s, challenge := f.any(), f.challenges[f.random.IntN(len(f.challenges))]
	if _, held := f.updating.LoadOrStore(challenge, true); held {
		return
	}
	f.updates.Go(func() {
		defer f.updating.Delete(challenge)
		ctx, cancel := context.WithTimeout(f.t.Context(), waits)
		defer cancel()
		switch answer, err := s.Call(ctx, http.MethodPatch, "/challenge/"+challenge, body); {
		case errors.Is(err, context.DeadlineExceeded) && waits == patience:
			f.mistake("an update has not ended after %v", patience)
		case err == nil && answer.Status != http.StatusOK && !what.excuses(answer):
			f.mistake("an update is answered %s", answer.Raw)
		}
	})
}

// quiet waits until nobody is at work, and has one reconcile look at all.
func (f *faultSite) quiet() (since time.Duration) {
	f.updates.Wait()
	eventually(f.t, "nobody is at work", f.noLease)
	f.servers[0].Tick("/reconcile")
	eventually(f.t, "nobody is at work", f.noLease) // events that are late find nothing to do
	return time.Since(f.began)
}

// mountCache gives a server a disk for its cache that can be filled.
func mountCache(t *testing.T, s *server) {
	t.Helper()
	dir := filepath.Join(s.Dir, "cache")
	ok(t, os.MkdirAll(dir, 0o700))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", cacheSize))
	if errors.Is(err, syscall.EPERM) {
		t.Skip("only root may mount a small disk")
	}
	ok(t, err)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// fillCache leaves no room on the disk of the cache.
func fillCache(t *testing.T, s *server) {
	t.Helper()
	file, err := os.Create(filepath.Join(s.Dir, "cache", "filler"))
	ok(t, err)
	defer func() { _ = file.Close() }()
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

func freeCache(t *testing.T, s *server) {
	t.Helper()
	ok(t, os.Remove(filepath.Join(s.Dir, "cache", "filler")))
}

// emptyCache has a server that does not run fetch everything anew.
func emptyCache(t *testing.T, s *server) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(s.Dir, "cache", "*", "*"))
	ok(t, err)
	for _, entry := range entries {
		ok(t, os.RemoveAll(entry))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
