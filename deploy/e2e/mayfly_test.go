//go:build cluster

package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"knative.dev/serving/pkg/apis/autoscaling"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// teardown is what destroying may take besides, and waking what does it.
const teardown = 30 * time.Second

// TestClusterMayfly uses an installation in every way, upgrades it and makes it
// public. It has the cluster for itself, as the others do: each keeps two cores
// busy, and a busy cluster does everything late.
func TestClusterMayfly(t *testing.T) {
	i := install(t)
	t.Run("side by side", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *installation){
			"API": testAPI, "programs": testPrograms, "all in one": testAllInOne, "leaving": testLeaving,
			"isolation": testIsolation,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, i)
			})
		}
	})
	t.Run("stream", func(t *testing.T) { testStream(t, i) })
	t.Run("events", func(t *testing.T) { testEvents(t, i) })
	t.Run("kn", func(t *testing.T) { testKn(t, i) })
	t.Run("backup", func(t *testing.T) { testBackup(t, i) })
	t.Run("upgrade", func(t *testing.T) { testUpgrade(t, i) })
	t.Run("public", func(t *testing.T) { testPublic(t, i) }) // others show no token
}

// TestClusterQuiet plays on an installation until nearly all is over, and leaves
// it alone. Meanwhile the Pulumi program takes its images, and another
// installation its Redis. What is alive goes with the installation.
func TestClusterQuiet(t *testing.T) {
	i := install(t)
	i.annotate(t, "gateway", map[string]string{autoscaling.ScaleToZeroPodRetentionPeriodKey: retention.String()})
	t.Run("protocols", func(t *testing.T) { testProtocols(t, i) })
	t.Run("examples", func(t *testing.T) { testExamples(t, i) })
	t.Run("expiry", func(t *testing.T) { testExpiry(t, i) })
	t.Run("quiet and not", func(t *testing.T) {
		t.Run("quiet", func(t *testing.T) {
			t.Parallel()
			testQuiet(t, i)
		})
		t.Run("Pulumi", func(t *testing.T) {
			t.Parallel()
			testPulumi(t, i)
		})
		t.Run("elsewhere", func(t *testing.T) {
			t.Parallel()
			testElsewhere(t, i)
		})
	})
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

// testExamples plays each of the examples.
func testExamples(t *testing.T, i *installation) {
	for _, name := range clustertest.Examples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i.play(t, name)
		})
	}
}

// testPlay plays the simplest one.
func testPlay(t *testing.T, i *installation) { i.play(t, "notes") }

// play has two teams deploy a challenge and solve it, each with a flag of its
// own, and nothing is left.
func (i *installation) play(t *testing.T, name string) {
	challenges, instances := i.clients(t, "gateway")
	e, id := example(t, name), name+"-"+strings.ToLower(rand.Text()[:8])
	_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{
		Id: id, Scenario: push(t, name, e.Scenario), Additional: e.Additional,
	})
	check(t, err)
	flags := map[string]bool{}
	for _, team := range []string{"1", "2"} {
		instance := i.create(t, id, team)
		var flag string
		clustertest.Eventually(t, 30*time.Second, name+" is solved", func() (err error) {
			flag, err = e.Solve(instance.GetConnectionInfo())
			return err
		})
		flags[flag] = true
		if !slices.Contains(instance.GetFlags(), flag) {
			t.Errorf("team %s found %s, the platform checks %v", team, flag, instance.GetFlags())
		}
	}
	if len(flags) != 2 {
		t.Errorf("two teams have the flags %v", flags)
	}
	_, err = instances.DeleteInstance(t.Context(), &instancev1.DeleteInstanceRequest{ChallengeId: id, SourceId: "1"})
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
