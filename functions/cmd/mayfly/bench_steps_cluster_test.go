//go:build cluster

package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// identityLabel is on the Deployments and the pods that the kit describes.
const identityLabel = "chall-manager.ctfer.io/identity"

// A timeline is when each step of an instance was seen.
type timeline struct {
	called    time.Time
	accepted  time.Time // the API server has the Deployment
	podded    time.Time // the controllers have made its pod
	placed    time.Time // the scheduler has found a node
	ready     time.Time // the kubelet has it running
	available time.Time // the controllers have seen that
	answered  time.Time
}

// An observer watches a namespace and takes down when it sees what.
type observer struct {
	mu   sync.Mutex
	seen map[string]*timeline // by identity
}

// observe watches until the end of the benchmark.
func observe(b *testing.B, c *clustertest.Cluster, namespace string) *observer {
	b.Helper()
	o := &observer{seen: map[string]*timeline{}}
	factory := informers.NewSharedInformerFactoryWithOptions(c.Typed, 0, informers.WithNamespace(namespace))
	for informer, see := range map[cache.SharedIndexInformer]func(any){
		factory.Apps().V1().Deployments().Informer(): o.seeDeployment,
		factory.Core().V1().Pods().Informer():        o.seePod,
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: see, UpdateFunc: func(_, now any) { see(now) },
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return o
}

func (o *observer) seeDeployment(object any) {
	d, ok := object.(*appsv1.Deployment)
	if !ok {
		return
	}
	o.note(d.Labels, func(t *timeline, now time.Time) {
		first(&t.accepted, now)
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue {
				first(&t.available, now)
			}
		}
	})
}

func (o *observer) seePod(object any) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	o.note(p.Labels, func(t *timeline, now time.Time) {
		first(&t.podded, now)
		for _, c := range p.Status.Conditions {
			switch {
			case c.Status != corev1.ConditionTrue:
			case c.Type == corev1.PodScheduled:
				first(&t.placed, now)
			case c.Type == corev1.PodReady:
				first(&t.ready, now)
			}
		}
	})
}

func (o *observer) note(labels map[string]string, take func(*timeline, time.Time)) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	identity := labels[identityLabel]
	if o.seen[identity] == nil {
		o.seen[identity] = &timeline{}
	}
	take(o.seen[identity], now)
}

// first sets a time that is not set.
func first(t *time.Time, now time.Time) {
	if t.IsZero() {
		*t = now
	}
}

// timeline returns the steps of an instance that is available. The observer
// may learn of it a moment later than who waited for it.
func (o *observer) timeline(identity string) (timeline, error) {
	late := time.After(patience)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		o.mu.Lock()
		t := o.seen[identity]
		done := t != nil && !t.available.IsZero() && !t.ready.IsZero()
		var steps timeline
		if done {
			steps = *t
		}
		o.mu.Unlock()
		if done {
			return steps, nil
		}
		select {
		case <-late:
			return timeline{}, fmt.Errorf("nobody saw that %q is available", identity)
		case <-look.C:
		}
	}
}

// countWorkers looks after the workers, of which most end with what they were
// started for, until the function it returns is called. That tells how many
// there were at most, and the most memory that they did not share.
func (s *clusterSite) countWorkers() (end func() (bytes, running int)) {
	const often = 100 * time.Millisecond
	quit := make(chan struct{})
	var most, mostRunning int
	var group sync.WaitGroup
	group.Go(func() {
		look := time.NewTicker(often)
		defer look.Stop()
		for {
			sum, workers := 0, s.server.Workers()
			for _, pid := range workers {
				sum += memory(pid, "RssAnon")
			}
			most, mostRunning = max(most, sum), max(mostRunning, len(workers))
			select {
			case <-quit:
				return
			case <-look.C:
			}
		}
	})
	return func() (int, int) {
		close(quit)
		group.Wait()
		return most, mostRunning
	}
}

// A usage is processor time.
type usage struct{ ours, machine time.Duration }

func (u usage) since(before usage) usage {
	return usage{ours: u.ours - before.ours, machine: u.machine - before.machine}
}

// usage returns how much processor time the server with its children has used,
// and the whole machine.
func (s *clusterSite) usage() usage {
	u := usage{ours: processorTime(s.server.cmd.Process.Pid)}
	for _, pid := range s.server.Workers() {
		u.ours += processorTime(pid)
	}
	text, err := os.ReadFile("/proc/stat")
	s.check(err)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	for i, field := range bytes.Fields(line) {
		if ticks, err := strconv.Atoi(string(field)); err == nil && i != 4 && i != 5 && i < 8 { // neither idle nor waiting
			u.machine += time.Duration(ticks) * tick
		}
	}
	return u
}

// tick is the unit in which Linux tells processor time.
const tick = 10 * time.Millisecond

// processorTime returns what a process and its children that have ended used,
// none if it is gone.
func processorTime(pid int) time.Duration {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, found := bytes.Cut(text, []byte(") "))
	if !found {
		return 0
	}
	var used time.Duration
	for _, field := range bytes.Fields(rest)[11:15] {
		ticks, _ := strconv.Atoi(string(field))
		used += time.Duration(ticks) * tick
	}
	return used
}
