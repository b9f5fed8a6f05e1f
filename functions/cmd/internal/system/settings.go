package system

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// clusterWorkers is how many operations run at once on a cluster: they mostly
// wait for pods. Each takes some 20 MB more while it runs.
const clusterWorkers = 32

// Settings are what an operator may choose of the engine and all around it.
type Settings struct {
	Platform Platform

	cache string
	oci   struct {
		insecure                     bool
		registry, username, password string
	}
	orphans  reconcile.Orphans // without the platforms
	workers  int
	programs struct {
		timeout time.Duration
		memory  uint // MiB
	}
}

// Register adds a flag for each setting. Those that the API's first
// implementation had keep their names.
func (s *Settings) Register(flags *pflag.FlagSet) {
	flags.StringVar(&s.cache, "cache", cacheDirectory(), "directory for scenarios, fetched again when it is empty")
	flags.BoolVar(&s.oci.insecure, "oci.insecure", false, "speak plain HTTP with every registry")
	flags.StringVar(&s.oci.registry, "oci.registry", "", "the registry that oci.username and oci.password are for, and no other")
	flags.StringVar(&s.oci.username, "oci.username", "", "user at oci.registry")
	flags.StringVar(&s.oci.password, "oci.password", "", "password at oci.registry")
	flags.DurationVar(&s.orphans.Grace, "orphan-grace", 10*time.Minute, "age at which what runs without a record is destroyed")
	flags.BoolVar(&s.orphans.ListOnly, "orphan-list", false, "list in the log what runs without a record, and destroy none of it")
	flags.IntVar(&s.workers, "workers", 0, fmt.Sprintf("operations of the engine at once; 0 is two for each processor, and %d on a cluster", clusterWorkers))
	s.Platform.Register(flags)
	flags.DurationVar(&s.programs.timeout, "scenario-timeout", time.Minute, "time a scenario's program may run, not counting what is made for it meanwhile")
	flags.UintVar(&s.programs.memory, "scenario-memory", 512, "memory a scenario's program may use, in MiB")
}

// operations is how many operations of the engine run at once; 0 is its own
// choice.
func (s *Settings) operations() int {
	if s.workers == 0 && s.Platform.Kubernetes {
		return clusterWorkers
	}
	return s.workers
}

// library returns how scenarios are found.
func (s *Settings) library(plainHTTP []string) scenario.Options {
	return scenario.Options{
		CacheDir: s.cache,
		Registries: scenario.Registries{
			Insecure:  s.oci.insecure,
			PlainHTTP: plainHTTP,
			Credentials: scenario.Credentials{
				Registry: s.oci.registry, Username: s.oci.username, Password: s.oci.password,
			},
		},
	}
}

func cacheDirectory() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "mayfly-cache"
	}
	return filepath.Join(dir, "mayfly")
}
