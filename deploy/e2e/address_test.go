//go:build cluster

package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// toldWithin is how long a function's log may take to reach us.
const toldWithin = 30 * time.Second

// leavingWithin is how long the instances of callers who left may take.
const leavingWithin = 2 * time.Minute

// testLeaving creates instances for callers who leave, or whose time is up: the
// function learns of it, and makes the instance all the same.
func testLeaving(t *testing.T, i *installation) {
	challenges, instances := i.clients(t, "gateway")
	id, left, late := "leaving-"+strings.ToLower(rand.Text()[:8]), newTrace(), newTrace()
	_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{
		Id: id, Scenario: pushCheap(t), Additional: map[string]string{"image": i.image(t), "late": "40"}, // seconds
	})
	check(t, err)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var calls errgroup.Group
	calls.Go(func() error {
		ctx := metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent(left))
		_, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: id, SourceId: "1"})
		if status.Code(err) != codes.Canceled {
			return fmt.Errorf("who left got %w", err)
		}
		return nil
	})
	calls.Go(func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url("gateway")+"/api/v1/instance",
			strings.NewReader(`{"challengeId":"`+id+`","sourceId":"2"}`))
		if err != nil {
			return err
		}
		request.Header.Set("Traceparent", traceparent(late))
		request.Header.Set("Grpc-Timeout", "20S") // enough for a function to start, and less than an instance
		response, err := i.plain.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusGatewayTimeout {
			return fmt.Errorf("whose time was up got %s", response.Status)
		}
		return nil
	})
	clustertest.Eventually(t, toldWithin, "the instances are begun", func() error {
		if n := len(i.objects(t, id)); n < 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	leave()
	check(t, calls.Wait())
	i.wantEnd(t, "create-instance", left, "canceled")
	// What answers REST and what works have a timer each, and the first one ends both.
	i.wantEnd(t, "create-instance", late, "deadline_exceeded", "canceled")
	clustertest.Eventually(t, leavingWithin, "the instances are there all the same", func() error {
		challenge, err := challenges.RetrieveChallenge(t.Context(), &challengev1.RetrieveChallengeRequest{Id: id})
		if n := len(challenge.GetInstances()); err == nil && n != 2 {
			err = fmt.Errorf("%d are", n)
		}
		return err
	})
	_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
	check(t, err)
	i.wantNone(t, id)
}

// wantAway waits until renew-instance is deleted, and asks for it through the
// gateway.
func (i *installation) wantAway(t *testing.T) {
	t.Helper()
	clustertest.Eventually(t, upWithin, "renew-instance is deleted", func() error {
		_, err := i.services().Get(t.Context(), "renew-instance", metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errors.New("it is there")
		}
		return err
	})
	// A call may find what is on its way out still, and nobody there.
	clustertest.Eventually(t, upWithin, "its name leads nowhere", func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, i.url("gateway")+"/api/v1/instance/none/1", strings.NewReader("{}"))
		check(t, err)
		response, err := i.plain.Do(request)
		check(t, err)
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		check(t, err)
		if response.StatusCode == http.StatusNotFound {
			return fmt.Errorf("it answers on its way out: %s", body)
		}
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "ErrorInfo") {
			t.Fatalf("a function that is away: %s %v %s", response.Status, response.Header, body)
		}
		if !strings.Contains(string(body), "renew-instance can't be reached") {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	_, instances := i.clients(t, "gateway")
	_, err := instances.RenewInstance(t.Context(), &instancev1.RenewInstanceRequest{ChallengeId: "none", SourceId: "1"})
	if status.Code(err) != codes.Unavailable || len(status.Convert(err).Details()) == 0 {
		t.Errorf("a function that is away, over gRPC: %v", err)
	}
}

// newTrace returns the id of a trace.
func newTrace() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // It never fails.
	return hex.EncodeToString(id[:])
}

func traceparent(trace string) string { return "00-" + trace + "-00f067aa0ba902b7-01" }

// wantEnd waits until a function says that the call of a trace has ended with one
// of these codes.
func (i *installation) wantEnd(t *testing.T, function, trace string, ways ...string) {
	t.Helper()
	clustertest.Eventually(t, toldWithin, fmt.Sprintf("%s ends a call with %v", function, ways), func() error {
		if ends := i.ends(t, function, trace); len(ends) != 1 || !slices.Contains(ways, ends[0]) {
			return fmt.Errorf("it ended %v", ends)
		}
		return nil
	})
}

// ends are the codes with which a function ended the calls of a trace.
func (i *installation) ends(t *testing.T, function, trace string) []string {
	t.Helper()
	list, err := i.Typed.CoreV1().Pods(i.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: nameLabel + "=" + function})
	check(t, err)
	var ends []string
	for _, pod := range list.Items {
		raw, err := i.Typed.CoreV1().Pods(i.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "function"}).DoRaw(t.Context())
		if err != nil {
			continue // a pod that has not started has ended no call
		}
		for line := range strings.Lines(string(raw)) {
			var call struct{ Msg, Trace, Code string }
			if json.Unmarshal([]byte(line), &call) == nil && call.Msg == "call" && call.Trace == trace {
				ends = append(ends, call.Code)
			}
		}
	}
	return ends
}
