package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/bsm/redislock"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// waitBetween is how often a lease that somebody else holds is asked for.
	waitBetween = 50 * time.Millisecond
	// beats is how often a lease is refreshed within its time to live.
	beats = 10
)

// A lease is the right to work on one instance, see [ctf.Lease]. One goroutine
// refreshes it until Release, which waits for its end.
type lease struct {
	store  *Store
	key    ctf.InstanceKey
	prefix string
	lock   *redislock.Lock
	fence  string
	stop   context.CancelFunc
	ended  chan struct{} // closed when the beating has ended
	once   sync.Once

	appends sync.Mutex // keeps journal entries in the order of the calls
	number  int64      // of the last journal entry of this lease

	mu       sync.Mutex
	deadline time.Time
	revision int64
	state    ctf.State
	loaded   ctf.State // what Load found, which is what the holder works for
	source   ctf.SourceID
	// generation is that of the challenge when it was loaded.
	generation int64
	lost       bool
	holds      map[*hold]struct{}
}

// A hold is a context that somebody works under, for a state.
type hold struct {
	state  ctf.State
	cancel context.CancelCauseFunc
}

// Lease waits until nobody else holds the instance's lease, takes it and
// raises the fence of the record; see [ctf.Leaser].
func (s *Store) Lease(ctx context.Context, key ctf.InstanceKey, held ...func()) (ctf.Lease, error) {
	locks, prefix := redislock.New(s.client), challengePrefix(key.Challenge)
	token := rand.Text()
	for {
		began := time.Now() // before the call: the lock may be given any time after
		lock, err := s.obtain(ctx, locks, prefix+"l:"+string(key.Identity), token)
		switch {
		case err == nil:
			l, err := s.raise(ctx, key, prefix, lock, began)
			if l != nil || err != nil {
				return asLease(l), err
			}
		case !errors.Is(err, redislock.ErrNotObtained):
			return nil, failure(ctx, "lease", err)
		default:
			for _, tell := range held {
				tell()
			}
		}
		if err := s.exists(ctx, key, prefix); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(waitBetween):
		}
	}
}

// asLease keeps a nil *lease from becoming a non-nil interface.
func asLease(l *lease) ctf.Lease {
	if l == nil {
		return nil
	}
	return l
}

func (s *Store) obtain(ctx context.Context, locks *redislock.Client, key, token string) (*redislock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return locks.Obtain(ctx, key, s.leaseTTL, &redislock.Options{Token: token})
}

func (s *Store) exists(ctx context.Context, key ctf.InstanceKey, prefix string) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, err := s.client.Exists(bounded, prefix+"i:"+string(key.Identity)).Result()
	if err != nil {
		return failure(ctx, "lease", err)
	}
	if n == 0 {
		return ctf.InstanceNotFound(key.Challenge.ID, "")
	}
	return nil
}

// raise makes the lock a lease by raising the fence. It returns nil and no
// error when the lock ran out before.
func (s *Store) raise(ctx context.Context, key ctf.InstanceKey, prefix string, lock *redislock.Lock, began time.Time) (*lease, error) {
	if err := s.replicated(ctx, nil); err != nil { // it is none of the attempts, which can't get far
		release(context.WithoutCancel(ctx), lock)
		return nil, err
	}
	r, err := s.run(ctx, call{"fence", prefix, []any{"identity", string(key.Identity), "token", lock.Token()}})
	if err != nil || r.status() != "ok" {
		if err == nil && r.status() == "gone" {
			err = ctf.InstanceNotFound(key.Challenge.ID, "")
		}
		release(context.WithoutCancel(ctx), lock)
		return nil, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &lease{
		store: s, key: key, prefix: prefix, lock: lock, fence: r.text(3), stop: stop, ended: make(chan struct{}),
		deadline: began.Add(s.leaseTTL), holds: map[*hold]struct{}{},
	}
	l.see(r, began)
	go l.beat(beating)
	return l, nil
}

// beat refreshes the lease until it is lost or released.
func (l *lease) beat(ctx context.Context) {
	defer close(l.ended)
	ticker := time.NewTicker(l.store.leaseTTL / beats)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		deadline := l.until()
		bounded, cancel := context.WithDeadline(ctx, deadline)
		_, err := l.call(bounded, "beat")
		cancel()
		switch {
		case errors.Is(err, ctf.ErrLeaseLost):
			return
		case err != nil && !time.Now().Before(deadline):
			l.lose()
			return
		}
	}
}

// call runs a script that writes under the lease, and takes down how the lease
// stands after it.
func (l *lease) call(ctx context.Context, script string, args ...any) (reply, error) {
	began := time.Now() // before the call: the lease lasts at least from here
	r, err := l.store.run(ctx, call{script, l.prefix, append([]any{
		"identity", string(l.key.Identity), "fence", l.fence, "token", l.lock.Token(), "ttl", l.store.leaseTTL.Milliseconds(),
	}, args...)})
	if err != nil {
		return nil, err
	}
	switch r.status() {
	case "ok":
		l.see(r, began)
		return r, nil
	case "superseded":
		l.see(r, began)
		return nil, ctf.ErrSuperseded
	case "gone", "lost":
		l.lose()
		return nil, ctf.ErrLeaseLost
	case "stale":
		return r, nil
	}
	return nil, unexpected(script, r)
}

// see takes down an answer of Redis: the lease lives on from when it was asked,
// and the record asks for a state. Answers may come out of order.
func (l *lease) see(r reply, began time.Time) {
	revision, err := strconv.ParseInt(r.text(2), 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := began.Add(l.store.leaseTTL); d.After(l.deadline) {
		l.deadline = d
	}
	if err != nil || revision < l.revision {
		return
	}
	l.revision, l.state = revision, ctf.State(r.text(1))
	for h := range l.holds {
		if h.state != l.state {
			h.cancel(ctf.ErrSuperseded)
		}
	}
}

func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = true
	for h := range l.holds {
		h.cancel(ctf.ErrLeaseLost)
	}
}

func (l *lease) until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// Hold returns a context that ends when the lease is lost or released, or when
// the record no longer asks for the state; see [ctf.Lease].
func (l *lease) Hold(ctx context.Context, state ctf.State) (context.Context, context.CancelFunc) {
	held, cancel := context.WithCancelCause(ctx)
	h := &hold{state, cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lost:
		cancel(ctf.ErrLeaseLost)
	case l.state != state:
		cancel(ctf.ErrSuperseded)
	}
	l.holds[h] = struct{}{}
	return held, func() {
		l.mu.Lock()
		delete(l.holds, h)
		l.mu.Unlock()
		cancel(nil)
	}
}

// Release gives the lease up. It may be called twice.
func (l *lease) Release() {
	l.once.Do(func() {
		l.stop()
		<-l.ended
		l.lose()
		release(context.Background(), l.lock)
	})
}

// release drops a lock. Whether that works or not, the lock runs out.
func release(ctx context.Context, lock *redislock.Lock) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_ = lock.Release(ctx)
}
