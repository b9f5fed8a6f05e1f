//go:build cluster

package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// holders create an instance each and delete it, and every fourth creates
	// another one, which stays.
	holders = 200
	callers = 12
	stays   = 4
	// tryFor is how long a caller waits for one answer, and pause before it asks
	// again.
	tryFor = 90 * time.Second
	pause  = 100 * time.Millisecond
	// faultsWithin is how long a loaded machine may take for all of it.
	faultsWithin = 12 * time.Minute
)

// TestClusterFaults kills pods of functions, and once Redis, while instances are
// created and deleted by callers who try again as long as they are told to.
// What they were told holds, and nothing is doubled or left. SEED repeats a run.
// It has the cluster for itself.
func TestClusterFaults(t *testing.T) {
	v := newVolume(t)
	i := prepare(t)
	v.keepFor(t, i)
	i.up(t, "--redis-volume")
	challenge := i.cards(t, &challengev1.CreateChallengeRequest{Timeout: durationpb.New(time.Hour)})
	ctx, cancel := context.WithTimeout(t.Context(), faultsWithin)
	defer cancel()
	f := &stories{
		installation: i, challenge: challenge, seed: seed(t),
		answered: make(chan struct{}, 10*holders), told: map[string]*instancev1.Instance{}, noAnswers: map[string]int{},
	}
	f.calls(ctx, t)
	clustertest.Eventually(t, time.Minute, "it is reconciled", func() error { return i.send(ctx, "reconcile", newTick()) })
	f.audit(t)
	f.redisAway(ctx, t)
	f.leave(ctx, t)
}

// seed is that of SEED, or another one each time.
func seed(t testing.TB) uint64 {
	t.Helper()
	text := cmp.Or(os.Getenv("SEED"), strconv.FormatUint(rand.Uint64(), 10))
	n, err := strconv.ParseUint(text, 10, 64)
	check(t, err)
	t.Logf("SEED=%d", n)
	return n
}

// stories are what callers see of an installation while its pods are killed.
type stories struct {
	*installation

	challenge string
	seed      uint64
	answered  chan struct{} // for each answer that was one

	mu        sync.Mutex
	ended     int                             // callers' stories
	told      map[string]*instancev1.Instance // of what stays, by source
	noAnswers map[string]int                  // by what was said instead
}

// calls has all holders do what they do, under fire.
func (f *stories) calls(ctx context.Context, t *testing.T) {
	firing, cease := context.WithCancel(ctx)
	defer cease()
	fire, struck := errgroup.Group{}, map[string]int{}
	fire.Go(func() error { return f.fire(firing, struck) })
	sources := make(chan int)
	group, ctx := errgroup.WithContext(ctx)
	for range callers {
		_, instances := f.clients(t, "gateway")
		group.Go(func() error {
			for n := range sources {
				if err := f.hold(ctx, instances, n); err != nil {
					return fmt.Errorf("source %d: %w", n, err)
				}
				f.mu.Lock()
				f.ended++
				f.mu.Unlock()
			}
			return nil
		})
	}
	began := time.Now()
	group.Go(func() error {
		defer close(sources)
		for n := range holders {
			select {
			case sources <- n:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	err := group.Wait()
	cease()
	err = errors.Join(err, fire.Wait())
	t.Logf("%d creates and deletes took %v; killed: %v; no answers: %v", f.ended, time.Since(began).Round(time.Second), struck, f.noAnswers)
	check(t, err)
}

// hold is what one source does: it takes an instance, looks at it, renews it and
// gives it back, and takes another one if that is to stay.
func (f *stories) hold(ctx context.Context, instances instancev1.InstanceManagerClient, n int) error {
	source := fmt.Sprint(n)
	random := rand.New(rand.NewPCG(f.seed, uint64(n))) //nolint:gosec // It is to come again.
	first, err := f.take(ctx, instances, source, "first", random)
	if err != nil {
		return err
	}
	if _, _, err := insist(ctx, f, instances.RenewInstance, &instancev1.RenewInstanceRequest{ChallengeId: f.challenge, SourceId: source}); err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	if err := f.look(ctx, instances, first); err != nil {
		return err
	}
	if err := f.giveBack(ctx, instances, source); err != nil || n%stays > 0 {
		return err
	}
	second, err := f.take(ctx, instances, source, "second", random)
	if err != nil {
		return err
	}
	if first.GetConnectionInfo() == second.GetConnectionInfo() {
		return fmt.Errorf("%s was deleted, and is there again", first.GetConnectionInfo())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[source] = second
	return nil
}

// take creates an instance for a source, by a key of its own.
func (f *stories) take(ctx context.Context, instances instancev1.InstanceManagerClient, source, turn string, random *rand.Rand) (*instancev1.Instance, error) {
	keyed := metadata.AppendToOutgoingContext(ctx, "idempotency-key", source+"-"+turn)
	created, _, err := insist(keyed, f, instances.CreateInstance, &instancev1.CreateInstanceRequest{
		ChallengeId: f.challenge, SourceId: source, Additional: map[string]string{"wait": fmt.Sprint(random.IntN(4000), "ms")},
	})
	if err != nil {
		return nil, fmt.Errorf("create the %s: %w", turn, err)
	}
	return created, nil
}

// look finds an instance as it was when it was created.
func (f *stories) look(ctx context.Context, instances instancev1.InstanceManagerClient, created *instancev1.Instance) error {
	found, _, err := insist(ctx, f, instances.RetrieveInstance, &instancev1.RetrieveInstanceRequest{
		ChallengeId: f.challenge, SourceId: created.GetSourceId(),
	})
	if err != nil {
		return fmt.Errorf("retrieve: %w", err)
	}
	before := append(created.GetFlags(), created.GetConnectionInfo())
	if d := gocmp.Diff(before, append(found.GetFlags(), found.GetConnectionInfo())); d != "" {
		return fmt.Errorf("it changed: %s", d)
	}
	return nil
}

// giveBack deletes an instance, which is absent then. A caller who got no answer
// may be told that there is nothing to delete any more.
func (f *stories) giveBack(ctx context.Context, instances instancev1.InstanceManagerClient, source string) error {
	_, tries, err := insist(ctx, f, instances.DeleteInstance, &instancev1.DeleteInstanceRequest{ChallengeId: f.challenge, SourceId: source})
	if err != nil && (tries == 1 || status.Code(err) != codes.NotFound) {
		return fmt.Errorf("delete: %w", err)
	}
	_, _, err = insist(ctx, f, instances.RetrieveInstance, &instancev1.RetrieveInstanceRequest{ChallengeId: f.challenge, SourceId: source})
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("retrieve what was deleted: %w", err)
	}
	return nil
}

// insist calls until the answer tells what became of the call, and says how
// often it called. What has no details is not from Mayfly, but from what is in
// front of it; if that does not say so, somebody made an error.
func insist[Q, A, O any](ctx context.Context, f *stories, call func(context.Context, Q, ...O) (A, error), request Q) (answer A, tries int, err error) {
	for tries = 1; ; tries++ {
		bounded, cancel := context.WithTimeout(ctx, tryFor)
		answer, err = call(bounded, request)
		cancel()
		said := status.Convert(err)
		if err == nil || len(said.Details()) > 0 && said.Code() != codes.Unavailable {
			f.answered <- struct{}{}
			return answer, tries, err
		}
		if (said.Code() == codes.Internal || said.Code() == codes.Unknown) && !isCut(said.Message()) {
			return answer, tries, fmt.Errorf("nobody says why: %w", err)
		}
		f.mu.Lock()
		f.noAnswers[said.Code().String()+": "+said.Message()]++
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return answer, tries, errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// isCut tells whether gRPC says that somebody on the way went in the middle of
// an answer, or that the ingress had none.
func isCut(message string) bool {
	for _, way := range []string{
		"stream terminated by RST_STREAM", "server closed the stream without sending trailers",
		"unexpected HTTP status code received from server: 50",
	} {
		if strings.HasPrefix(message, way) {
			return true
		}
	}
	return false
}
