package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Redis answers before its replicas know, and what they don't know yet a failover
// forgets. With Options.Wait the steps whose answers are promises to a caller, or
// are what such an answer rests on, wait for replicas. Replicas learn in order, so
// with a step they have all that was written before it. See
// shared/docs/decisions/0011-wait.md.

const (
	// waitLimit is how long replicas may take: far less than callTimeout and a lease.
	waitLimit = 2 * time.Second
	// waitedFor is how long the key lives that is written for waiting.
	waitedFor = time.Minute
)

// errWaitCluster: what waits has no key, and so no way to the right node.
var errWaitCluster = errors.New("replicas can be waited for with one Redis or Sentinel, and not with a Redis Cluster")

func isPromise(script string) bool {
	switch script {
	case "create_challenge", "update_challenge", "delete_challenge", "remove_challenge",
		"reserve", "follow", "renew", "delete_instance",
		"load", "replacement", "deployed", "abandon", "lose", "forget":
		return true
	}
	return false
}

// waited runs a script and returns once enough replicas have what it wrote. Redis
// counts for each connection what it wrote last, so all goes over one, and
// something is written in any case: the script may have found its work done, by a
// try that no replica has.
func (s *Store) waited(ctx context.Context, c call) ([]any, error) {
	script := s.scripts[c.script]
	for run := script.EvalSha; ; run = script.Eval {
		var out *redis.Cmd
		err := s.replicated(ctx, func(p redis.Pipeliner) { out = run(ctx, p, []string{c.key}, s.argv(c)...) })
		reply, failed := out.Slice()
		switch {
		case redis.HasErrorPrefix(failed, "NOSCRIPT"):
		case failed != nil:
			return nil, failed
		default:
			return reply, err
		}
	}
}

// replicated returns nil once enough replicas have all that was written until now. What
// is to be written first, if anything, goes over the same connection; its errors are
// its own.
func (s *Store) replicated(ctx context.Context, first func(redis.Pipeliner)) error {
	if s.wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var written *redis.StatusCmd
	var replicas *redis.Cmd
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		if first != nil {
			first(p)
		}
		written = p.Set(ctx, waitKey, "", waitedFor)
		replicas = p.Do(ctx, "WAIT", s.wait, waitLimit.Milliseconds())
		return nil // each command keeps its own error
	})
	n, err := replicas.Int64()
	if err = errors.Join(written.Err(), err); err == nil && n < int64(s.wait) {
		err = fmt.Errorf("%d replicas have it, of %d to wait for", n, s.wait)
	}
	if err != nil {
		return tooFewReplicas(err)
	}
	return nil
}

func tooFewReplicas(err error) error {
	return &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable, Message: "The state store has too few copies of it.",
		Detail: "it may have happened, try again in a moment", Err: err}
}
