//go:build cluster

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// crowd is how many teams start at once.
const crowd = 100

// BenchmarkClusterBurst has many teams ask for their instances at once while no
// function runs, and again while they do. Then it waits until nothing runs, and
// measures what is left.
func BenchmarkClusterBurst(b *testing.B) {
	i := install(b)
	names := i.names(b)
	for _, name := range names {
		i.shorten(b, name)
	}
	kinds := []struct{ name, challenge string }{
		{"ConfigMaps", i.cards(b, &challengev1.CreateChallengeRequest{})}, {"a pod each", i.challenge(b, 0)},
	}
	for b.Loop() {
		table(b, []string{strconv.Itoa(crowd) + " creates at once", "", "first", "half", "last", "pods of create-instance", "of them the largest, MB"}, func(row func(...any)) {
			for _, kind := range kinds {
				i.awaitNone(b)
				for _, from := range []string{"from zero", "warm"} {
					all := i.createAll(b, kind.challenge)
					i.deleteAll(b, kind.challenge)
					row(kind.name, from, quantile(all.took, 0), quantile(all.took, 50), quantile(all.took, 99), all.pods, all.megabytes)
				}
			}
		})
		i.awaitNone(b)
		i.measureIdle(b)
	}
}

type burst struct {
	took      []time.Duration
	pods      int // at most at once
	megabytes int // of the largest of them
}

// createAll creates an instance for each team and looks at the function meanwhile.
func (i *installation) createAll(b *testing.B, id string) (all burst) {
	b.Helper()
	all.took = make([]time.Duration, crowd)
	began := time.Now()
	ended := i.each(b, func(ctx context.Context, instances instancev1.InstanceManagerClient, n int) error {
		_, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: id, SourceId: strconv.Itoa(n)})
		all.took[n] = time.Since(began)
		return err
	})
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			check(b, err)
			return all
		case <-look.C:
		}
		all.pods = max(all.pods, len(i.alive(b, "create-instance")))
		for _, pod := range i.usage(b) {
			if pod.function == "create-instance" {
				all.megabytes = max(all.megabytes, pod.megabytes())
			}
		}
	}
}

func (i *installation) deleteAll(b *testing.B, id string) {
	b.Helper()
	check(b, <-i.each(b, func(ctx context.Context, instances instancev1.InstanceManagerClient, n int) error {
		_, err := instances.DeleteInstance(ctx, &instancev1.DeleteInstanceRequest{ChallengeId: id, SourceId: strconv.Itoa(n)})
		return err
	}))
}

// each calls a function for each team at once, over a connection of its own.
func (i *installation) each(b *testing.B, call func(context.Context, instancev1.InstanceManagerClient, int) error) <-chan error {
	b.Helper()
	group, ctx := errgroup.WithContext(b.Context())
	for n := range crowd {
		_, instances := i.clients(b, "gateway")
		group.Go(func() error { return call(ctx, instances, n) })
	}
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	return ended
}

func (i *installation) awaitNone(b *testing.B) {
	b.Helper()
	clustertest.Eventually(b, 10*time.Minute, "no function runs", func() error {
		if pods := i.pods(b); len(pods) > 0 {
			return fmt.Errorf("%v", pods)
		}
		return nil
	})
}

// measureIdle says what runs when nobody calls.
func (i *installation) measureIdle(b *testing.B) {
	b.Helper()
	table(b, []string{"idle: what runs", "MB", "of a processor"}, func(row func(...any)) {
		for _, pod := range i.usage(b) {
			row(pod.Ref.Name, pod.megabytes(), fmt.Sprintf("%.1f %%", float64(pod.CPU.UsageNanoCores)/1e7))
		}
	})
}

// usage is what a pod uses, as its kubelet says: the part of its summary that
// is read here (k8s.io/kubelet/pkg/apis/stats/v1alpha1).
type usage struct {
	Ref    struct{ Name, Namespace string } `json:"podRef"`
	CPU    struct{ UsageNanoCores uint64 }
	Memory struct{ WorkingSetBytes uint64 }

	function string
}

func (u usage) megabytes() int { return int(u.Memory.WorkingSetBytes >> 20) }

// usage is that of every pod of the functions and of Redis.
func (i *installation) usage(b *testing.B) (ours []usage) {
	b.Helper()
	pods, err := i.Typed.CoreV1().Pods(i.namespace).List(b.Context(), metav1.ListOptions{})
	check(b, err)
	functions := map[string]string{}
	nodes := map[string]bool{}
	for _, pod := range pods.Items {
		functions[pod.Name] = pod.Labels[nameLabel]
		nodes[pod.Spec.NodeName] = true
	}
	delete(nodes, "") // not placed yet
	for node := range nodes {
		text, err := i.Typed.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix("stats/summary").DoRaw(b.Context())
		check(b, err)
		var summary struct{ Pods []usage }
		check(b, json.Unmarshal(text, &summary))
		for _, pod := range summary.Pods {
			if pod.Ref.Namespace == i.namespace {
				pod.function = functions[pod.Ref.Name]
				ours = append(ours, pod)
			}
		}
	}
	return ours
}
