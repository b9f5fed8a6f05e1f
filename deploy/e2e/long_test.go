//go:build cluster

package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// late is how long the longest creates take, lateBy how much longer at most,
	// and replacedAfter how long they have run when everything is replaced.
	late          = 180 * time.Second
	lateBy        = time.Minute
	replacedAfter = 10 * time.Second
)

// long are creates that take three minutes.
type long struct {
	i       *installation
	replace *time.Timer
	calls   errgroup.Group
	began   time.Time
	traces  map[string]string // of their calls, by source

	mu      sync.Mutex
	endedBy map[string]string // the pods that ended calls with ok, by the call's trace
}

// slow is the challenge of which they are.
const slow = "slow"

// startLong begins a create through the gateway over gRPC, one over REST and
// one at the function itself.
func (i *installation) startLong(t *testing.T, cheap string) *long {
	t.Helper()
	challenges, instances := i.clients(t, "gateway")
	_, direct := i.clients(t, "create-instance")
	_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{Id: slow, Scenario: cheap, Additional: map[string]string{
		"image": i.image(t), "late": strconv.Itoa(int(late.Seconds())),
	}})
	check(t, err)
	l := &long{
		i: i, began: time.Now(), replace: time.NewTimer(replacedAfter), endedBy: map[string]string{},
		traces: map[string]string{"grpc": newTrace(), "direct": newTrace(), "rest": newTrace()},
	}
	for source, verbs := range map[string]func(challenge, source string) map[string]call{
		"grpc":   (&grpcUser{challenges, instances, cheap}).verbs,
		"direct": (&grpcUser{challenges, direct, cheap}).verbs,
		"rest":   (&restUser{client: i.plain, base: i.url("gateway"), scenario: cheap, trace: l.traces["rest"]}).verbs,
	} {
		create := verbs(slow, source)["create-instance"]
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent(l.traces[source])) // for gRPC
		l.calls.Go(func() error {
			err := create(ctx)
			took := time.Since(l.began).Round(time.Second)
			t.Logf("the create over %s ended after %v: %v", source, took, err)
			switch {
			case err != nil:
				return fmt.Errorf("create over %s: %w", source, err)
			case took < late || took > late+lateBy:
				return fmt.Errorf("the create over %s took %v", source, took)
			}
			return nil
		})
	}
	return l
}

// follow reads what pods of create-instance say from now on: of those that end,
// it can't be read later.
func (l *long) follow(t *testing.T, pods []corev1.Pod) {
	t.Helper()
	for _, pod := range pods {
		if pod.Labels[nameLabel] != "create-instance" {
			continue
		}
		log, err := l.i.Typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "function", Follow: true}).
			Stream(t.Context())
		if err != nil {
			t.Logf("%s has not started, or is gone: %v", pod.Name, err)
			continue // it makes no instance
		}
		go l.read(pod.Name, log)
	}
}

func (l *long) read(pod string, log io.ReadCloser) {
	defer func() { _ = log.Close() }()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var said struct{ Msg, Trace, Code string }
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Msg == "call" && said.Code == "ok" {
			l.mu.Lock()
			l.endedBy[said.Trace] = pod
			l.mu.Unlock()
		}
	}
}

// end waits for the instances, each of which was made by a pod that was told to
// end when its create was young, and deletes them.
func (l *long) end(t *testing.T) {
	t.Helper()
	check(t, l.calls.Wait())
	_, instances := l.i.clients(t, "gateway")
	for source, trace := range l.traces {
		clustertest.Eventually(t, toldWithin, "what was replaced ends the create over "+source, func() error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.endedBy[trace] == "" {
				return errors.New("no pod that was replaced says so")
			}
			return nil
		})
		_, err := instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: slow, SourceId: source})
		check(t, err)
	}
	l.i.forget(t, slow)
}
