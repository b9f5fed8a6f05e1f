package system

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/reconcile"
	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

const (
	// clusterWorkers is how many operations run at once on a cluster: they mostly
	// wait for pods. Each takes some 20 MB more while it runs.
	clusterWorkers = 32
	// processorWorkers is how many do so for each processor elsewhere: two that
	// deploy, and one that destroys.
	processorWorkers = 3
	// maxCreateWait leaves as much of a call's time to the deployment.
	maxCreateWait = OperationLimit / 2
)

// Settings are what an operator may choose of the engine and all around it.
type Settings struct {
	Platform Platform
	// Scratch is the engine's, see [engine.Options].
	Scratch string

	cache string
	oci   struct {
		insecure                     bool
		registry, username, password string
	}
	inventory reconcile.Inventory // without the platforms
	workers   int
	creates   lifecycle.Bounds // as they were given
	programs  struct {
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
	flags.DurationVar(&s.inventory.Orphans.Grace, "orphan-grace", 10*time.Minute, "age at which what runs without a record is destroyed")
	flags.BoolVar(&s.inventory.Orphans.ListOnly, "orphan-list", false, "list in the log what runs without a record, and destroy none of it")
	s.inventory.Lost = reconcile.Repair
	flags.Var(&s.inventory.Lost, "lost", "what becomes of an instance that is on record and does not run: repair, end or show (in the log)")
	flags.IntVar(&s.workers, "workers", 0, fmt.Sprintf("operations of the engine at once; 0 is %d for each processor, and %d on a cluster", processorWorkers, clusterWorkers))
	flags.IntVar(&s.creates.Deployments, "deployments", 0, "how many of them may be deployments, the rest is left to destructions; 0 is two thirds")
	flags.IntVar(&s.creates.Queue, "create-queue", 500, "creates that may wait for a deployment; more are told to come again later")
	flags.DurationVar(&s.creates.Wait, "create-wait", time.Minute, "time that a create may wait for a deployment before it is told to come again later")
	s.Platform.Register(flags)
	flags.DurationVar(&s.programs.timeout, "scenario-timeout", time.Minute, "time a scenario's program may run, not counting what is made for it meanwhile")
	flags.UintVar(&s.programs.memory, "scenario-memory", 512, "memory a scenario's program may use, in MiB")
}

// bounds are how much is done at once, as it was chosen.
func (s *Settings) bounds() (lifecycle.Bounds, error) {
	workers := s.workers
	switch {
	case workers == 0 && s.Platform.Kubernetes:
		workers = clusterWorkers
	case workers == 0:
		workers = processorWorkers * runtime.GOMAXPROCS(0)
	}
	b := s.creates
	if workers < 0 {
		return b, fmt.Errorf("workers: it is %d and must not be negative", workers)
	}
	if b.Deployments == 0 {
		b.Deployments = workers - workers/3
	}
	switch {
	case b.Deployments < 0 || b.Deployments > workers:
		return b, fmt.Errorf("deployments: it is %d and must be 1 to %d, as many as there are workers", b.Deployments, workers)
	case b.Queue < 0:
		return b, fmt.Errorf("create-queue: it is %d and must not be negative", b.Queue)
	case b.Wait < 0 || b.Wait > maxCreateWait:
		return b, fmt.Errorf("create-wait: it is %s and must be 0 to %s, so that time is left for the deployment", b.Wait, maxCreateWait)
	}
	b.Destructions = max(1, workers-b.Deployments) // one worker more than there are, if all may deploy
	return b, nil
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
