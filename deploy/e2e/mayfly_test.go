//go:build cluster

package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// teardown is what destroying may take besides, and waking what does it.
	teardown = 30 * time.Second
	// quietFor is how long nothing runs, and quietWithin how long that may take
	// to come: Knative looks back a minute, a pod takes half of one to end, and
	// the slow tick may come in between.
	quietFor    = 5 * time.Minute
	quietWithin = 14 * time.Minute
)

// TestClusterMayfly is a day in the life of an installation.
func TestClusterMayfly(t *testing.T) {
	i := install(t)
	t.Run("protocols", func(t *testing.T) { testProtocols(t, i) })
	t.Run("play", func(t *testing.T) { testPlay(t, i) })
	t.Run("API", func(t *testing.T) { testAPI(t, i) })
	t.Run("expiry", func(t *testing.T) { testExpiry(t, i) })
	t.Run("quiet", func(t *testing.T) { testQuiet(t, i) })
	t.Run("kn", func(t *testing.T) { testKn(t, i) })
}

// clients are over gRPC, through the gateway, or for one function past it.
func (i *installation) clients(t testing.TB, function string) (challengev1.ChallengeStoreClient, instancev1.InstanceManagerClient) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+function+"."+i.namespace+".svc.cluster.local",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return i.dial(ctx, "", "") }))
	check(t, err)
	t.Cleanup(func() { check(t, conn.Close()) })
	return challengev1.NewChallengeStoreClient(conn), instancev1.NewInstanceManagerClient(conn)
}

// testProtocols asks for an instance that is not there, in every way.
func testProtocols(t *testing.T, i *installation) {
	ask := &instancev1.RetrieveInstanceRequest{ChallengeId: "none", SourceId: "1"}
	for _, function := range []string{"gateway", "retrieve-instance"} {
		t.Run("REST/"+function, func(t *testing.T) {
			response, err := i.plain.Get(i.url(function) + "/api/v1/instance/none/1")
			check(t, err)
			defer func() { _ = response.Body.Close() }()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusNotFound {
				t.Errorf("%s %v: %s", response.Status, err, body)
			}
		})
		t.Run("gRPC/"+function, func(t *testing.T) {
			_, instances := i.clients(t, function)
			if _, err := instances.RetrieveInstance(t.Context(), ask); status.Code(err) != codes.NotFound {
				t.Error(err)
			}
		})
		for name, option := range map[string]connect.ClientOption{
			"Connect": connect.WithProtoJSON(), "gRPC-Web": connect.WithGRPCWeb(),
		} {
			t.Run(name+"/"+function, func(t *testing.T) {
				client := instancev1connect.NewInstanceManagerClient(i.modern(), i.url(function), option)
				if _, err := client.RetrieveInstance(t.Context(), ask); connect.CodeOf(err) != connect.CodeNotFound {
					t.Error(err)
				}
			})
		}
	}
}

// testPlay has two teams deploy a challenge and solve it, each with a flag of
// its own, and nothing is left.
func testPlay(t *testing.T, i *installation) {
	challenges, instances := i.clients(t, "gateway")
	id := i.challenge(t, 0)
	flags := map[string]bool{}
	for _, team := range []string{"1", "2"} {
		instance := i.create(t, id, team)
		flag := solve(t, instance.GetConnectionInfo())
		flags[flag] = true
		if !slices.Contains(instance.GetFlags(), flag) {
			t.Errorf("team %s found %s, the platform checks %v", team, flag, instance.GetFlags())
		}
	}
	if len(flags) != 2 {
		t.Errorf("two teams have the flags %v", flags)
	}
	_, err := instances.DeleteInstance(t.Context(), &instancev1.DeleteInstanceRequest{ChallengeId: id, SourceId: "1"})
	check(t, err)
	_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
	check(t, err)
	i.wantNone(t, id)
}

// challenge makes one of the example notes, with a time for its instances
// unless that is 0.
func (i *installation) challenge(t testing.TB, timeout time.Duration) string {
	t.Helper()
	challenges, _ := i.clients(t, "gateway")
	request := &challengev1.CreateChallengeRequest{Id: "notes-" + strings.ToLower(rand.Text()[:8]), Scenario: pushExample(t, "notes")}
	if timeout > 0 {
		request.Timeout = durationpb.New(timeout)
	}
	_, err := challenges.CreateChallenge(t.Context(), request)
	check(t, err)
	return request.GetId()
}

func (i *installation) create(t testing.TB, challenge, source string) *instancev1.Instance {
	t.Helper()
	_, instances := i.clients(t, "gateway")
	began := time.Now()
	instance, err := instances.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{ChallengeId: challenge, SourceId: source})
	check(t, err)
	t.Logf("%s/%s: created in %v", challenge, source, time.Since(began).Round(time.Millisecond))
	return instance
}

// wantNone waits until no object of a challenge is left.
func (i *installation) wantNone(t testing.TB, challenge string) {
	t.Helper()
	clustertest.Eventually(t, teardown, "nothing is left", func() error {
		if left := i.instances(t, challenge); len(left) > 0 {
			return fmt.Errorf("%d instances", len(left))
		}
		return nil
	})
}

// solve asks for the note that the list does not show.
func solve(t testing.TB, at string) string {
	t.Helper()
	var flag string
	clustertest.Eventually(t, 30*time.Second, "the challenge is solved", func() error {
		page, err := clustertest.Play(t, at+"/note?id=0")
		if err != nil {
			return err
		}
		if flag = regexp.MustCompile(`CTF\{[0-9a-f]{32}\}`).FindString(page); flag == "" {
			return errors.New("no flag in " + page)
		}
		return nil
	})
	return flag
}

// testQuiet waits until nothing of ours has run for a while but Redis and the
// gateway, whose last pod stays ten minutes. The slow tick alone may wake a
// function, and the first call after it all works.
func testQuiet(t *testing.T, i *installation) {
	var began, since = time.Now(), time.Time{}
	late := time.After(quietWithin)
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for since.IsZero() || time.Since(since) < quietFor {
		select {
		case <-late:
			t.Fatalf("not quiet after %v: %v", quietWithin, i.woken(t))
		case <-look.C:
		}
		running := i.woken(t)
		switch {
		case len(running) == 0 && since.IsZero():
			since = time.Now()
			t.Logf("quiet after %v", since.Sub(began).Round(time.Second))
		case len(running) > 0 && !since.IsZero() && !slices.Equal(running, []string{"reconcile"}):
			t.Fatalf("woken: %v", running)
		case len(running) > 0:
			since = time.Time{}
		}
	}
	if schedule := i.schedule(t); schedule != knative.ScheduleOff {
		t.Errorf("the fast tick is on: %s", schedule)
	}
	id := i.challenge(t, 0)
	i.create(t, id, "1")
	challenges, _ := i.clients(t, "gateway")
	_, err := challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
	check(t, err)
	i.wantNone(t, id)
}

// woken are the functions of which a pod runs, without the gateway.
func (i *installation) woken(t testing.TB) []string {
	t.Helper()
	return slices.DeleteFunc(i.pods(t), func(name string) bool { return name == "gateway" })
}
