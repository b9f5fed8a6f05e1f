package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/uuid"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"

	createchallenge "github.com/mayfly-ctf/mayfly/functions/create-challenge"
	createinstance "github.com/mayfly-ctf/mayfly/functions/create-instance"
	deletechallenge "github.com/mayfly-ctf/mayfly/functions/delete-challenge"
	deleteinstance "github.com/mayfly-ctf/mayfly/functions/delete-instance"
	"github.com/mayfly-ctf/mayfly/functions/expire"
	fillpool "github.com/mayfly-ctf/mayfly/functions/fill-pool"
	"github.com/mayfly-ctf/mayfly/functions/gateway"
	querychallenge "github.com/mayfly-ctf/mayfly/functions/query-challenge"
	queryinstance "github.com/mayfly-ctf/mayfly/functions/query-instance"
	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	renewinstance "github.com/mayfly-ctf/mayfly/functions/renew-instance"
	retrievechallenge "github.com/mayfly-ctf/mayfly/functions/retrieve-challenge"
	retrieveinstance "github.com/mayfly-ctf/mayfly/functions/retrieve-instance"
	updatechallenge "github.com/mayfly-ctf/mayfly/functions/update-challenge"
	"github.com/mayfly-ctf/mayfly/shared/apitest"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/process"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// operationLimit bounds the work on one instance.
const operationLimit = 5 * time.Minute

// TestMain is three programs: the tests, the functions that they kill, and the
// workers of those.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "functions":
		if err := runFunctions(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "worker":
		o := process.Options{Directory: os.Args[2], MaxProcesses: 500}
		os.Exit(engine.Work(context.Background(), engine.Providers{
			process.Package: func() (plugin.Provider, error) { return process.NewProvider(o) },
		}, nil))
	default:
		os.Exit(m.Run())
	}
}

// An installation is where its functions are and what they stand on.
type installation struct {
	Dir, Redis, Keys, Registry string
	// Functions are their addresses by name.
	Functions map[string]string
}

// runFunctions runs every function on an address of its own, serving its own
// verb and nothing else, until it is interrupted.
func runFunctions(encoded string) error {
	var in installation
	if err := json.Unmarshal([]byte(encoded), &in); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	verbs, ticks, end, err := assemble(ctx, in, log)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	failed := make(chan error, len(in.Functions))
	serveAt := func(name string, o serve.Options) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", in.Functions[name])
		if err != nil {
			failed <- err
			stop()
			return
		}
		o.Log, o.DrainFor = log, operationLimit
		group.Go(func() { failed <- serve.Run(ctx, l, o) })
	}
	for field, name := range verbNames {
		serveAt(name, serve.Options{Verbs: alone(verbs, field)})
	}
	for name, handle := range ticks {
		serveAt(name, serve.Options{Events: map[string]serve.EventHandler{"/" + name: handle}})
	}
	tick(ctx, &group, "http://"+in.Functions["expire"]+"/expire", time.Second)
	tick(ctx, &group, "http://"+in.Functions["reconcile"]+"/reconcile", time.Minute)
	group.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return errors.Join(err, end(context.WithoutCancel(ctx)))
}

// assemble makes the functions on one store and one engine.
func assemble(ctx context.Context, in installation, log *slog.Logger) (
	verbs serve.Verbs, ticks map[string]serve.EventHandler, end func(context.Context) error, err error,
) {
	fail := func(err error) (serve.Verbs, map[string]serve.EventHandler, func(context.Context) error, error) {
		return serve.Verbs{}, nil, nil, err
	}
	keys, err := redis.ParseKeys(in.Keys)
	if err != nil {
		return fail(err)
	}
	store, err := redis.Open(ctx, redis.Options{URL: in.Redis, Keys: keys})
	if err != nil {
		return fail(err)
	}
	library, err := scenario.New(scenario.Options{
		CacheDir:   filepath.Join(in.Dir, "cache"),
		Registries: scenario.Registries{PlainHTTP: []string{in.Registry}},
	})
	if err != nil {
		return fail(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	deployer, err := engine.New(ctx, engine.Options{
		Source:        library,
		WorkerCommand: []string{self, "worker", filepath.Join(in.Dir, "instances")},
		WorkerEnv:     []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")},
	})
	if err != nil {
		return fail(err)
	}
	publisher, err := events.NewPublisher(store, []events.Sink{
		{URL: "http://" + in.Functions["fill-pool"] + "/fill-pool", Types: fillpool.Types()},
	}, log)
	if err != nil {
		return fail(err)
	}
	life := lifecycle.New(store, deployer, publisher, lifecycle.Bounds{}, operationLimit)
	pools := fillpool.New(store, life, log)
	verbs = serve.Verbs{
		CreateChallenge:   createchallenge.New(store, library, life, publisher).Handle,
		RetrieveChallenge: retrievechallenge.New(store).Handle,
		QueryChallenge:    querychallenge.New(store).Handle,
		UpdateChallenge:   updatechallenge.New(store, library, life, publisher).Handle,
		DeleteChallenge:   deletechallenge.New(store, life, publisher).Handle,
		CreateInstance:    createinstance.New(store, life, publisher).Handle,
		RetrieveInstance:  retrieveinstance.New(store).Handle,
		QueryInstance:     queryinstance.New(store).Handle,
		RenewInstance:     renewinstance.New(store, publisher).Handle,
		DeleteInstance:    deleteinstance.New(store, life, publisher).Handle,
	}
	onTick := func(handle func(context.Context) error) serve.EventHandler {
		return func(ctx context.Context, _ cloudevents.Event) error { return handle(ctx) }
	}
	ticks = map[string]serve.EventHandler{
		"expire":    onTick(expire.New(store, life, log).Handle),
		"reconcile": onTick(reconcile.New(store, life, pools, publisher, reconcile.Inventory{}, log).Handle),
		"fill-pool": func(ctx context.Context, ce cloudevents.Event) error {
			event, err := events.Decode(ce)
			if err != nil {
				return err
			}
			return pools.Handle(ctx, event)
		},
	}
	return verbs, ticks, func(ctx context.Context) error {
		err := errors.Join(life.Drain(ctx), publisher.Close(ctx), deployer.Close())
		library.Close()
		return errors.Join(err, store.Close())
	}, nil
}

// tick wakes a function at once and then at each interval.
func tick(ctx context.Context, group *sync.WaitGroup, url string, every time.Duration) {
	group.Go(func() {
		client, err := cloudevents.NewClientHTTP()
		if err != nil {
			panic(err)
		}
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for ctx.Err() == nil {
			e := cloudevents.NewEvent()
			e.SetID(uuid.NewString())
			e.SetSource("/gateway/test")
			e.SetType(events.TickType)
			_ = events.Send(ctx, client, url, e) // The next one does it.
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

// A system is an installation whose functions run in a process of their own.
type system struct {
	installation
	cmd *exec.Cmd
}

func newSystem(t *testing.T) *system {
	t.Helper()
	dir := t.TempDir()
	s := &system{installation: installation{
		Dir: dir, Redis: redistest.Start(t), Keys: redis.NewKey(), Registry: startRegistry(t, filepath.Join(dir, "registry")),
		Functions: map[string]string{},
	}}
	for _, name := range append(slices.Collect(maps.Values(verbNames)), "expire", "reconcile", "fill-pool") {
		l := listen(t, "127.0.0.2:0")
		defer func() { _ = l.Close() }() // when all are chosen, so that no two are the same
		s.Functions[name] = l.Addr().String()
	}
	t.Cleanup(s.kill)
	return s
}

// start starts the functions and waits until all are healthy.
func (s *system) start(t *testing.T) {
	t.Helper()
	encoded, err := json.Marshal(s.installation)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(self, "functions", string(encoded))
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}
	s.cmd.Stderr = t.Output()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for name, address := range s.Functions {
		eventually(t, name+" is healthy", func() bool {
			res, err := http.Get("http://" + address + "/healthcheck")
			if err != nil {
				return false
			}
			_ = res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
}

// kill ends the functions without a chance to clean up.
func (s *system) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // It may have ended.
		_ = s.cmd.Wait()         // How it ended is the test's business.
		s.cmd = nil
	}
}

func startRegistry(t *testing.T, dir string) string {
	t.Helper()
	handler, err := registry.New(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, "127.0.0.1:0")
	server := &http.Server{Handler: handler}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // It ends by Close alone.
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return l.Addr().String()
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	late := time.After(deadline)
	for tick := time.NewTicker(20 * time.Millisecond); !condition(); <-tick.C {
		select {
		case <-late:
			tb.Fatalf("not within %s: %s", deadline, what)
		default:
		}
	}
}

// TestAPI runs the black-box suite through the gateway, with each verb in a
// function of its own; the functions are killed and started again meanwhile.
func TestAPI(t *testing.T) {
	s := newSystem(t)
	s.start(t)
	targets := map[string]*host{}
	for name, address := range s.Functions {
		targets[name] = &host{url: "http://" + address}
	}
	g := open(t, gateway.Options{Target: to(targets)}, serve.Options{Swagger: true})
	apitest.Run(t, apitest.Target{
		BaseURL: g.url, Expire: "http://" + s.Functions["expire"] + "/expire", Registry: s.Registry, Swagger: true, Toolchain: true,
		Kill: func() { s.kill(); s.start(t) },
	})
}
