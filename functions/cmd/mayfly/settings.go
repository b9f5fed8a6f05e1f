package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
)

// settings is what an operator may choose. Each is a flag and an environment
// variable; those that the API's first implementation had keep their names.
type settings struct {
	system.Settings

	address         string
	port            uint16
	swagger         bool
	dir             string
	logLevel        string
	redisURL        string
	redisWait       uint8
	registryPort    uint16
	tick, reconcile time.Duration
}

func (s *settings) register(flags *pflag.FlagSet) {
	flags.StringVar(&s.address, "address", "127.0.0.1", "address to listen on")
	flags.Uint16VarP(&s.port, "port", "p", 8080, "port to listen on; 0 takes a free one")
	flags.BoolVar(&s.swagger, "swagger", false, "serve the API's documentation under /swagger/")
	flags.StringVarP(&s.dir, "dir", "d", stateDirectory(), "directory for all that is to be kept")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&s.redisURL, "redis-url", "", "Redis 6.2 or newer; empty starts one of our own")
	flags.Uint8Var(&s.redisWait, "redis-wait", 0, "replicas of Redis that must have a change before it is answered; not with a Redis Cluster")
	flags.Uint16Var(&s.registryPort, "registry-port", 5000, "port of the registry for scenarios; part of every reference to it; 0 takes a free one")
	flags.DurationVar(&s.tick, "tick", 10*time.Second, "time between two looks for expired instances; 0 is that others wake /expire")
	flags.DurationVar(&s.reconcile, "reconcile", time.Minute, "time between two looks for interrupted work; 0 is that others wake /reconcile")
	s.Settings.Register(flags)
	function.NameVariables(flags)
}

// check refuses what no clock can do.
func (s *settings) check() error {
	for name, interval := range map[string]time.Duration{"tick": s.tick, "reconcile": s.reconcile} {
		if interval < 0 {
			return fmt.Errorf("%s: it is %s and must not be negative", name, interval)
		}
	}
	return nil
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
