package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// records say where an installation keeps what it knows, and with which key a
// backup of that is encrypted.
type records struct{ redisURL, dir, keyFile string }

func (r *records) register(flags *pflag.FlagSet) {
	flags.StringVar(&r.redisURL, "redis-url", "", "Redis of the installation; empty is that of 'mayfly run' in --dir")
	flags.StringVarP(&r.dir, "dir", "d", stateDirectory(), "directory in which 'mayfly run' keeps all that is to be kept")
	flags.StringVar(&r.keyFile, "key-file", "", "`file` with the key of the backup, instead of $MAYFLY_BACKUP_KEY")
	function.NameVariables(flags)
}

// key returns the key of the backup, nil if none is given. Of several, the first
// encrypts and all decrypt.
func (r *records) key() (*redis.Keyring, error) {
	text, from := os.Getenv("MAYFLY_BACKUP_KEY"), "MAYFLY_BACKUP_KEY"
	if r.keyFile != "" {
		content, err := os.ReadFile(r.keyFile)
		if err != nil {
			return nil, fmt.Errorf("key of the backup: %w", err)
		}
		text, from = string(content), r.keyFile
	} else if text == "" {
		return nil, nil
	}
	key, err := redis.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return key, nil
}

// keysOfInstallation returns those that it sealed its secrets with.
func (r *records) keysOfInstallation() (*redis.Keyring, error) {
	text, from := os.Getenv("MAYFLY_KEYS"), "MAYFLY_KEYS"
	if text == "" {
		from = filepath.Join(r.dir, "keys")
		kept, err := os.ReadFile(from)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("the keys of the installation that was backed up are not there: put them back as %s, or set MAYFLY_KEYS", from)
		}
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		text = string(kept)
	}
	keys, err := redis.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return keys, nil
}

// inUse returns the Redis of an installation that may be at work.
func (r *records) inUse(ctx context.Context, diagnostics io.Writer) (url string, stop func(), err error) {
	if r.redisURL != "" {
		return r.redisURL, func() {}, nil
	}
	data := filepath.Join(r.dir, "redis")
	if _, err := os.Stat(data); err != nil {
		return "", nil, fmt.Errorf("no Mayfly keeps anything in %s; say where with --dir or --redis-url", r.dir)
	}
	d, err := takeDirectory(r.dir)
	switch {
	case err == nil:
		return startOver(ctx, d, diagnostics)
	case !errors.Is(err, errHeld):
		return "", nil, err
	}
	url, err = runningRedis(data)
	if err != nil {
		return "", nil, fmt.Errorf("the Mayfly that runs on %s has its Redis elsewhere; say where with --redis-url", r.dir)
	}
	return url, func() {}, nil
}

// alone returns the Redis of an installation of which nothing is to run.
func (r *records) alone(ctx context.Context, diagnostics io.Writer) (url string, stop func(), err error) {
	if r.redisURL != "" {
		return r.redisURL, func() {}, nil
	}
	d, err := openDirectory(ctx, r.dir, diagnostics)
	if err != nil {
		return "", nil, err
	}
	return startOver(ctx, d, diagnostics)
}

// startOver starts a redis-server over the data of a directory. Stop lets go of
// both.
func startOver(ctx context.Context, d *dataDirectory, diagnostics io.Writer) (url string, stop func(), err error) {
	child, err := startChild(ctx, d, diagnostics)
	if err != nil {
		d.lock.Close()
		return "", nil, err
	}
	return child.URL, func() {
		child.Stop()
		d.lock.Close()
	}, nil
}

func startChild(ctx context.Context, d *dataDirectory, diagnostics io.Writer) (*redisChild, error) {
	log, err := function.NewLogger(diagnostics, "warn")
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w; install it, or say where Redis is with --redis-url", err)
	}
	return startRedis(ctx, program, d.join("redis"), d.lock, log)
}
