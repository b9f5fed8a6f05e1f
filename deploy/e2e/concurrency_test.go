//go:build cluster

package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

const (
	// callFor is how long callers call a light function, and creations how many
	// instances they make with the engine, for each number of callers.
	callFor   = 3 * time.Second
	creations = 48
)

// BenchmarkClusterConcurrency calls one pod of a light function and one that
// runs the engine, past Knative, with more and more callers at once. What
// config/ says of containerConcurrency is taken from here.
func BenchmarkClusterConcurrency(b *testing.B) {
	i := install(b)
	challenge := i.cards(b, &challengev1.CreateChallengeRequest{})
	for b.Loop() {
		table(b, []string{"one pod of", "callers", "calls/s", "p50", "p99", "MB"}, func(row func(...any)) {
			for _, callers := range []int{10, 50, 100, 200} {
				row(append([]any{"retrieve-instance", callers}, i.retrieveAtOnce(b, callers)...)...)
			}
			for n, callers := range []int{2, 4, 8, 16} {
				row(append([]any{"create-instance", callers}, i.createAtOnce(b, challenge, n, callers)...)...)
			}
		})
	}
}

// retrieveAtOnce asks for an instance that is not there.
func (i *installation) retrieveAtOnce(b *testing.B, callers int) []any {
	b.Helper()
	ask(b, i.plain, i.url("retrieve-instance")+missing, http.StatusNotFound)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	url := "http://" + i.podOf(b, "retrieve-instance") + missing
	began := time.Now()
	return i.measure(b, "retrieve-instance", callers, func(context.Context, int) (bool, error) {
		response, err := client.Get(url)
		if err != nil {
			return false, err
		}
		return time.Since(began) < callFor, response.Body.Close()
	})
}

// createAtOnce makes instances, for sources that no other round has.
func (i *installation) createAtOnce(b *testing.B, challenge string, round, callers int) []any {
	b.Helper()
	ask(b, i.plain, i.url("create-instance")+"/healthcheck", http.StatusOK)
	conn, err := grpc.NewClient(i.podOf(b, "create-instance"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(b, err)
	defer func() { check(b, conn.Close()) }()
	instances := instancev1.NewInstanceManagerClient(conn)
	return i.measure(b, "create-instance", callers, func(ctx context.Context, n int) (bool, error) {
		source := strconv.Itoa(round*creations + n)
		_, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: challenge, SourceId: source})
		return n+callers < creations, err
	})
}

// podOf is the address of a function's pod, past Knative's proxy.
func (i *installation) podOf(b *testing.B, function string) string {
	b.Helper()
	pods := i.alive(b, function)
	if len(pods) == 0 {
		b.Fatalf("%s has no pod after a call", function)
	}
	return net.JoinHostPort(pods[0].Status.PodIP, "8080")
}

// measure has callers call, each until it is told that there is no more, and
// returns what a row of the table says. The number of a call is its caller's,
// and as many more as there are callers for each one before.
func (i *installation) measure(b *testing.B, function string, callers int, call func(context.Context, int) (bool, error)) []any {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	group, ctx := errgroup.WithContext(b.Context())
	began := time.Now()
	for caller := range callers {
		group.Go(func() error {
			for n, more := caller, true; more; n += callers {
				asked := time.Now()
				var err error
				if more, err = call(ctx, n); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(asked))
				mu.Unlock()
			}
			return nil
		})
	}
	check(b, group.Wait())
	rate, megabytes := float64(len(took))/time.Since(began).Seconds(), 0
	for _, pod := range i.usage(b) {
		if pod.function == function {
			megabytes = max(megabytes, pod.megabytes())
		}
	}
	return []any{fmt.Sprintf("%.1f", rate), quantile(took, 50), quantile(took, 99), megabytes}
}
