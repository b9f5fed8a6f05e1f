package system

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// TestMain is a worker when it is told to, as a function's binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		worker := NewWorkerCommand()
		worker.SetArgs(os.Args[2:])
		if worker.Execute() != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// push pushes a scenario of this name in testdata.
func push(t *testing.T, name string) string {
	t.Helper()
	handler, err := registry.New(t.Context(), t.TempDir())
	check(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "main"), "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	check(t, os.WriteFile(filepath.Join(dir, "Pulumi.yaml"),
		[]byte("name: one\nruntime: {name: go, options: {binary: ./main}}\n"), 0o600))
	reference := strings.TrimPrefix(server.URL, "http://") + "/" + name + ":1"
	_, err = scenario.Push(t.Context(), dir, reference, scenario.Registries{Insecure: true})
	check(t, err)
	return reference
}

// A wiring is what a function stands on beside its settings: an engine and where
// its events go, by default the real one and itself.
type wiring struct {
	engine ctf.Engine
	sink   string
}

// start runs a function with every verb. It returns its address, what tells it
// to stop, and when it has stopped.
// Settings are names and values.
func start(t *testing.T, f *Function, settings ...string) (url string, tell func(), stopped <-chan error) {
	t.Helper()
	return startWith(t, f, wiring{}, settings...)
}

func startWith(t *testing.T, f *Function, w wiring, settings ...string) (url string, tell func(), stopped <-chan error) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := free.Addr().(*net.TCPAddr) //nolint:forcetypeassert // it listens on TCP
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Register(flags)
	for name, value := range map[string]string{
		"address": "127.0.0.1", "redis-url": redistest.Start(t), "cache": t.TempDir(), "oci.insecure": "true",
	} {
		check(t, flags.Set(name, value))
	}
	for n := 0; n+1 < len(settings); n += 2 {
		check(t, flags.Set(settings[n], settings[n+1]))
	}
	_, port, err := net.SplitHostPort(address.String())
	check(t, err)
	check(t, flags.Set("port", port))
	t.Setenv("MAYFLY_KEYS", "k:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	log, err := function.NewLogger(t.Output(), "warn")
	check(t, err)
	ctx, tell := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	check(t, free.Close()) // as late as may be: others look for ports, too
	sinks := OwnSinks(f.URL())
	if w.sink != "" {
		sinks = []events.Sink{{URL: w.sink}}
	}
	go func() {
		ended <- f.Run(ctx, sinks, log, func(all *System) serve.Options {
			if w.engine != nil {
				all.lifecycle = lifecycle.New(all.store, w.engine, all.publisher, lifecycle.Bounds{}, OperationLimit)
			}
			return serve.Options{Verbs: all.Verbs(), Events: all.Events()}
		})
	}()
	await(t, f.URL()+"/healthcheck", ended)
	return f.URL(), tell, ended
}

// await waits until the function answers.
func await(t *testing.T, url string, ended <-chan error) {
	t.Helper()
	late := time.After(30 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		response, err := http.Get(url)
		if err == nil {
			check(t, response.Body.Close())
			return
		}
		select {
		case <-again.C:
		case err := <-ended:
			t.Fatal(err)
		case <-late:
			t.Fatal(err)
		}
	}
}

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	check(t, err)
	check(t, response.Body.Close())
	return response
}

// A function that is told to stop ends in time, also with work in progress that
// does not: the calls that wait for it, then the work itself.
func TestFunctionStopsInTime(t *testing.T) {
	reference := push(t, "endless")
	f := &Function{drainFor: time.Second, stopFor: 2 * time.Second}
	url, tell, stopped := start(t, f)
	if r := post(t, url+"/api/v1/challenge", `{"id": "endless", "scenario": "`+reference+`"}`); r.StatusCode != http.StatusOK {
		t.Fatal(r.Status)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		response, err := http.Post(url+"/api/v1/instance", "application/json", strings.NewReader(`{"challenge_id": "endless", "source_id": "1"}`))
		if err == nil {
			t.Errorf("the create was answered with %s", response.Status)
			_ = response.Body.Close()
		}
	}()
	for late := time.Now().Add(30 * time.Second); programs(t, f.engine.cache) == 0; {
		if time.Now().After(late) {
			t.Fatal("no program runs")
		}
	}
	began := time.Now()
	tell()
	if err := <-stopped; err == nil || !strings.Contains(err.Error(), "calls did not end within 1s") {
		t.Errorf("it stopped with %v", err)
	}
	if took, most := time.Since(began), f.stopFor+parts*closeLimit; took < f.stopFor || took > most {
		t.Errorf("it took %v, want %v to %v", took, f.stopFor, most)
	}
	<-asked
}

// parts is how many parts of a system end one after the other, the work among them.
const parts = 5

// From the deletion of its pod, a function has ended before Knative kills it.
func TestStoppingFitsIntoKnativesGrace(t *testing.T) {
	t.Parallel()
	const quiet, grace = 30 * time.Second, 600 * time.Second
	if most := quiet + max(stopFor, function.DrainFor) + parts*closeLimit; most >= grace {
		t.Errorf("it may take %v of %v", most, grace)
	}
}

// A stuck tick never comes on, whoever waits for it.
type stuck struct {
	asked   chan struct{}
	release chan struct{}
}

func (s stuck) On(context.Context) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.release
	return nil
}

func (stuck) Off(context.Context) error { return nil }

// A system closes in time though its store can't.
func TestCloseWithAStuckTick(t *testing.T) {
	t.Parallel()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	tick := stuck{make(chan struct{}, 1), make(chan struct{})}
	var settings Settings
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.Register(flags)
	check(t, flags.Set("cache", t.TempDir()))
	log := slog.New(slog.DiscardHandler)
	all, err := Open(t.Context(), Plan{
		Settings: settings, Redis: redis.Options{URL: redistest.Start(t), Keys: keys, Tick: tick, Log: log}, Log: log,
	})
	check(t, err)
	defer close(tick.release)
	key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "1"}
	check(t, all.store.CreateChallenge(t.Context(), ctf.Challenge{Key: key}))
	_, _, err = all.store.DeleteChallenge(t.Context(), key) // expire is to look at it
	check(t, err)
	<-tick.asked
	began := time.Now()
	all.Close(t.Context())
	if took, most := time.Since(began), parts*closeLimit; took > most {
		t.Errorf("it took %v, want %v at most", took, most)
	}
}

// A call whose time is over has its work gone on with by the function itself,
// woken by its own event and by no tick.
func TestCallOutOfTime(t *testing.T) {
	const instances = 15 // a second each, longer than the limit
	quick, slow := push(t, "quick"), push(t, "slow")
	f := &Function{limit: 10 * time.Second} // enough for a preview on a busy machine
	url, tell, stopped := start(t, f, "workers", "1")
	if made := post(t, url+"/api/v1/challenge", `{"id": "1", "scenario": "`+quick+`"}`); made.StatusCode != http.StatusOK {
		t.Fatal(made.Status)
	}
	options, err := f.Redis()
	check(t, err)
	store, err := redis.Open(t.Context(), options)
	check(t, err)
	defer func() { check(t, store.Close()) }()
	wait := func(what string, generation int64) {
		t.Helper()
		eventually(t, what, func() bool {
			ready := 0
			for entry, err := range store.All(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "1"}) {
				check(t, err)
				if entry.Instance.State == ctf.Ready && entry.Instance.Generation == generation {
					ready++
				}
			}
			return ready == instances
		})
	}
	for n := range instances {
		post(t, url+"/api/v1/instance", fmt.Sprintf(`{"challenge_id": "1", "source_id": "%d"}`, n))
	}
	wait("all are deployed", 1)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, url+"/api/v1/challenge/1",
		strings.NewReader(`{"scenario": "`+slow+`", "updateMask": "scenario"}`))
	check(t, err)
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("the update is answered with %s", response.Status)
	}
	wait("all are updated", 2)
	tell()
	check(t, <-stopped)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	late := time.After(2 * time.Minute)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// programs is how many programs run that a cache holds.
func programs(t *testing.T, cache string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/exe")
	check(t, err)
	found := 0
	for _, file := range files {
		program, _ := os.Readlink(file) // a process may have ended
		if strings.HasPrefix(program, cache) {
			found++
		}
	}
	return found
}
