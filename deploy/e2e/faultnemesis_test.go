//go:build cluster && faults

package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

const (
	// hangsFor is longer than a lease.
	hangsFor = 30 * time.Second
	// servesWithin is how long something to be broken may take to be there again.
	servesWithin = 2 * time.Minute
	ofRedis      = "app.kubernetes.io/component=redis"
)

// busy are the functions that have work to do meanwhile.
func busy() []string {
	return []string{
		"gateway", "create-instance", "retrieve-instance", "renew-instance", "delete-instance",
		"update-challenge", "fill-pool", "reconcile",
	}
}

// A fault breaks something and returns what mends it; nil is what Kubernetes mends
// itself.
type fault struct {
	name   string
	strike func(*testing.T, *faultSite) (mend func())
	// calm is between two strikes, beside what is random.
	calm time.Duration
}

func everyFault() []fault {
	ofBusy := nameLabel + " in (" + strings.Join(busy(), ",") + ")"
	return []fault{
		{name: "pods killed", strike: func(t *testing.T, f *faultSite) func() { return f.strike(t, ofBusy, new(int64(0))) }},
		{name: "pods told to stop", strike: func(t *testing.T, f *faultSite) func() { return f.strike(t, ofBusy, nil) }},
		{name: "revisions replaced", strike: replace},
		{name: "redis killed", calm: 5 * time.Second, strike: func(t *testing.T, f *faultSite) func() {
			return f.strike(t, ofRedis, new(int64(0)))
		}},
		{name: "redis hangs for longer than a lease", calm: 10 * time.Second, strike: hang},
		{name: "connections to redis cut", strike: disconnect},
		{name: "scripts flushed", strike: flush},
	}
}

// anyFault is any of them, one after the other.
func anyFault(all []fault) fault {
	return fault{name: "any of these", calm: 3 * time.Second, strike: func(t *testing.T, f *faultSite) func() {
		t.Helper()
		return all[f.random.IntN(len(all))].strike(t, f)
	}}
}

// strike ends a pod, which has this many seconds to end, or its own grace.
func (f *faultSite) strike(t *testing.T, selector string, grace *int64) (mend func()) {
	t.Helper()
	struck := ""
	clustertest.Eventually(t, servesWithin, "a pod serves", func() error {
		name, err := f.end(t.Context(), f.random, selector, grace)
		if err == nil && name == "" {
			err = errors.New("none with " + selector)
		}
		struck = name
		return err
	})
	t.Logf("%v: a pod of %s", time.Since(f.began).Round(time.Millisecond), struck)
	return nil
}

// replace has a function be of a new revision, and waits until it is.
func replace(t *testing.T, f *faultSite) (mend func()) {
	t.Helper()
	f.annotate(t, busy()[f.random.IntN(len(busy()))], map[string]string{"mayfly.dev/faults": fmt.Sprint(f.random.Int64())})
	return nil
}

// hang has Redis answer nobody.
func hang(t *testing.T, f *faultSite) (mend func()) {
	t.Helper()
	_, raw := f.openRedis(t)
	check(t, raw.Do(t.Context(), "CLIENT", "PAUSE", hangsFor.Milliseconds(), "ALL").Err())
	clustertest.Eventually(t, 2*hangsFor, "redis answers", func() error { return raw.Ping(t.Context()).Err() })
	return nil
}

// disconnect cuts all connections to Redis, and waits until there is one.
func disconnect(t *testing.T, f *faultSite) (mend func()) {
	t.Helper()
	_, raw := f.openRedis(t)
	clustertest.Eventually(t, servesWithin, "somebody is connected to redis", func() error {
		killed, err := raw.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Int()
		if err == nil && killed == 0 {
			err = errors.New("nobody is")
		}
		return err
	})
	return nil
}

// flush has Redis forget all scripts, and waits until somebody has asked for one.
func flush(t *testing.T, f *faultSite) (mend func()) {
	t.Helper()
	_, raw := f.openRedis(t)
	check(t, raw.ConfigResetStat(t.Context()).Err())
	check(t, raw.ScriptFlush(t.Context()).Err())
	clustertest.Eventually(t, servesWithin, "somebody asks for a script", func() error {
		info, err := raw.Info(t.Context(), "errorstats").Result()
		if err == nil && !strings.Contains(info, "errorstat_NOSCRIPT:") {
			err = errors.New("nobody does")
		}
		return err
	})
	return nil
}

// openRedis waits until Redis serves, and connects to it: a connection from
// before may lead nowhere.
func (f *faultSite) openRedis(t *testing.T) (*redis.Store, *goredis.Client) {
	t.Helper()
	clustertest.Eventually(t, servesWithin, "redis serves", func() error {
		list, err := f.Typed.CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: ofRedis})
		if err == nil && (len(list.Items) != 1 || !isServing(list.Items[0])) {
			err = errors.New("it does not")
		}
		return err
	})
	return f.redis(t)
}
