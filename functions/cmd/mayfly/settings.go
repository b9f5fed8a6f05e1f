package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// settings is what an operator may choose. Each is a flag and an environment
// variable; those that the API's first implementation had keep their names.
type settings struct {
	address      string
	port         uint16
	swagger      bool
	dir          string
	cache        string
	logLevel     string
	redisURL     string
	registryPort uint16
	oci          struct {
		insecure                     bool
		registry, username, password string
	}
	tick, reconcile time.Duration
	orphans         struct {
		grace time.Duration
		list  bool
	}
	workers  int
	platform platform
	scenario struct {
		timeout time.Duration
		memory  uint
	}
}

// clusterWorkers is how many operations run at once on a cluster: they mostly
// wait for pods. Each takes some 20 MB more while it runs.
const clusterWorkers = 32

// atOnce is how many operations of the engine run at once; 0 is its own choice.
func (s settings) atOnce() int {
	if s.workers == 0 && s.platform.Kubernetes {
		return clusterWorkers
	}
	return s.workers
}

func (s *settings) register(flags *pflag.FlagSet) {
	flags.StringVar(&s.address, "address", "127.0.0.1", "address to listen on")
	flags.Uint16VarP(&s.port, "port", "p", 8080, "port to listen on; 0 takes a free one")
	flags.BoolVar(&s.swagger, "swagger", false, "serve the API's documentation under /swagger/")
	flags.StringVarP(&s.dir, "dir", "d", stateDirectory(), "directory for all that is to be kept")
	flags.StringVar(&s.cache, "cache", cacheDirectory(), "directory for scenarios, fetched again when it is empty")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&s.redisURL, "redis-url", "", "Redis 6.2 or newer; empty starts one of our own")
	flags.Uint16Var(&s.registryPort, "registry-port", 5000, "port of the registry for scenarios; part of every reference to it; 0 takes a free one")
	flags.BoolVar(&s.oci.insecure, "oci.insecure", false, "speak plain HTTP with every registry")
	flags.StringVar(&s.oci.registry, "oci.registry", "", "the registry that oci.username and oci.password are for, and no other")
	flags.StringVar(&s.oci.username, "oci.username", "", "user at oci.registry")
	flags.StringVar(&s.oci.password, "oci.password", "", "password at oci.registry")
	flags.DurationVar(&s.tick, "tick", 10*time.Second, "time between two looks for expired instances")
	flags.DurationVar(&s.reconcile, "reconcile", time.Minute, "time between two looks for interrupted work")
	flags.DurationVar(&s.orphans.grace, "orphan-grace", 10*time.Minute, "age at which what runs without a record is destroyed")
	flags.BoolVar(&s.orphans.list, "orphan-list", false, "list in the log what runs without a record, and destroy none of it")
	flags.IntVar(&s.workers, "workers", 0, fmt.Sprintf("operations of the engine at once; 0 is two for each processor, and %d on a cluster", clusterWorkers))
	s.platform.register(flags)
	flags.DurationVar(&s.scenario.timeout, "scenario-timeout", time.Minute, "time a scenario's program may run, not counting what is made for it meanwhile")
	flags.UintVar(&s.scenario.memory, "scenario-memory", 512, "memory a scenario's program may use, in MiB")
	flags.VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + environmentName(f.Name) + "]" })
}

// fromEnvironment sets every flag that the command line does not and the
// environment does.
func fromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		value, ok := os.LookupEnv(name)
		if f.Changed || !ok || value == "" || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	return failed
}

func environmentName(flag string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}

func stateDirectory() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "mayfly")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "mayfly-state"
	}
	return filepath.Join(home, ".local", "state", "mayfly")
}

func cacheDirectory() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "mayfly-cache"
	}
	return filepath.Join(dir, "mayfly")
}
