// Package redis keeps challenges, instances, leases and the outbox in Redis:
// records, the indexes that find them, and the atomic scripts that change them.
// It knows Redis and the domain, and nothing of engines, wire formats or verbs.
//
// Each change is one Lua script on the keys of one challenge, which share a
// slot; rules.lua holds every rule once. What lies across challenges is a hint,
// written before the record and verified by its reader. keys.go is the whole key
// space, and shared/docs/states.md the table that the scripts follow.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	defaultLeaseTTL = 20 * time.Second
	// callTimeout bounds every call, its repetitions after a lost connection
	// included.
	callTimeout = 10 * time.Second
	// pageSize is how many records or hints are read in one go.
	pageSize = 100
)

// Options say where the store is and how it behaves.
type Options struct {
	// URL is redis://, rediss:// or unix:// for one server, with several
	// comma-separated addresses or as redis+cluster:// for a Redis Cluster, and
	// with ?master_name=NAME or as redis+sentinel:// for Sentinel. Everything
	// else that go-redis reads from a URL may stand in its query.
	URL string
	// Keys encrypt what is secret. They are required.
	Keys *Keyring
	// Wait is how many replicas must have a change before it is answered; 0 waits
	// for none. It can't be with a Redis Cluster.
	Wait uint8
	// LeaseTTL is how long a lease outlives a holder that died; 0 is 20 seconds.
	LeaseTTL time.Duration
	// Lazy has Open not wait for Redis to answer: calls find out.
	Lazy bool
	// Tick is turned on and off as things become due; nil where it is always on.
	Tick ctf.Tick
	// ReconcileEvery is how often reconcile comes; 0 is 15 minutes.
	ReconcileEvery time.Duration
	// Log tells when the tick can't be turned on; nil is the default logger.
	Log *slog.Logger
	// Hook sees every command to Redis, for tests that break things there; nil is
	// none.
	Hook redis.Hook
}

// A Store is all state of Mayfly. It is safe for concurrent use, and any number
// of processes may have one on the same Redis.
type Store struct {
	client   redis.UniversalClient
	keys     *Keyring
	leaseTTL time.Duration
	wait     uint8
	scripts  map[string]*redis.Script
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
	shift    atomic.Int64 // nanoseconds
	tick     ticker
	// installation is what Installation answered.
	installation atomic.Pointer[string]
}

var (
	_ ctf.ChallengeReader = (*Store)(nil)
	_ ctf.ChallengeWriter = (*Store)(nil)
	_ ctf.InstanceReader  = (*Store)(nil)
	_ ctf.InstanceWriter  = (*Store)(nil)
	_ ctf.PoolWriter      = (*Store)(nil)
	_ ctf.DueReader       = (*Store)(nil)
	_ ctf.Auditor         = (*Store)(nil)
	_ ctf.Outbox          = (*Store)(nil)
	_ ctf.Relay           = (*Store)(nil)
	_ ctf.Leaser          = (*Store)(nil)
)

// Open connects to Redis. It returns a StoreUnavailable error when Redis does
// not answer, and any other error when the options can never work.
func Open(ctx context.Context, options Options) (*Store, error) {
	if options.Keys == nil {
		return nil, errors.New("open the store: no encryption keys given")
	}
	s := &Store{keys: options.Keys, leaseTTL: options.LeaseTTL, wait: options.Wait}
	if s.leaseTTL == 0 {
		s.leaseTTL = defaultLeaseTTL
	}
	s.tick.open(s, options)
	var err error
	if s.scripts, err = loadScripts(); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if s.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if s.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked)); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if s.client, err = connect(options.URL, options.Wait); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if options.Hook != nil {
		s.client.AddHook(options.Hook)
	}
	if options.Lazy {
		return s, nil
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), s.Close())
	}
	return s, nil
}

// Close ends all connections, after the fast tick has been turned on if it was
// to be. Leases should be released before.
func (s *Store) Close() error {
	s.tick.waking.Wait()
	s.decoder.Close()
	return s.client.Close()
}

// Ping returns a StoreUnavailable error unless Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return failure(ctx, "ping", s.client.Ping(bounded).Err())
}

// Installation is the name under which everything that this Redis has records
// of is found elsewhere. It is drawn once, random, for as long as the data
// lives: two installations never take each other's resources for their own.
// While a backup is being restored it is a StoreUnavailable error.
func (s *Store) Installation(ctx context.Context) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.client.SetNX(bounded, installationKey, string(ctf.NewIdentity()), 0).Err(); err != nil {
		return "", failure(ctx, "name the installation", err)
	}
	name, err := s.Named(ctx)
	if err != nil {
		return "", err
	}
	s.installation.Store(&name)
	return name, nil
}

// Shift moves the clock that this store's scripts go by, for tests. Leases are
// not affected: their time is Redis' own.
func (s *Store) Shift(by time.Duration) { s.shift.Add(int64(by)) }
