//go:build cluster

package e2e_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// testBackup backs up, loses all that Redis has and restores, by the README's own
// commands. What runs is managed again.
func testBackup(t *testing.T, i *installation) {
	newVolume(t).claimed(t, i, "backups")
	challenges, instances := i.clients(t, "gateway")
	id := i.challenge(t, time.Hour)
	i.create(t, id, "1")
	ask := &instancev1.RetrieveInstanceRequest{ChallengeId: id, SourceId: "1"}
	before, err := instances.RetrieveInstance(t.Context(), ask)
	check(t, err)

	s := i.terminal(t)
	images, rest := cut(t, documented(t, "kubectl apply -k config/backup"), "make images")
	image := regexp.MustCompile(clustertest.Registry(t) + `/\S+/` + allInOne + `@\S+`).FindString(s.run(t, images))
	s.dir = t.TempDir()
	i.rename(t, s.dir)
	s.names = strings.NewReplacer("registry.example/ctf/mayfly@sha256:…", image, "-n mayfly", "-n "+i.namespace)
	s.run(t, rest)
	s.run(t, documented(t, "kubectl create job before-saving"))

	// Nobody calls, and the ticks are hours away.
	was := i.scheduleOf(t, "reconcile")
	i.reschedule(t, "reconcile", "0 0 1 1 *")
	defer i.reschedule(t, "reconcile", was)
	s.run(t, documented(t, "kubectl exec redis-0"))

	after, err := instances.RetrieveInstance(t.Context(), ask)
	check(t, err)
	if d := cmp.Diff(before, after, protocmp.Transform()); d != "" {
		t.Errorf("the instance is another: %s", d)
	}
	check(t, post(t.Context(), i.plain, i.url("reconcile")+"/reconcile", newTick()))
	clustertest.Eventually(t, 30*time.Second, "it is solved", func() error {
		_, err := example(t, "notes").Solve(after.GetConnectionInfo())
		return err
	})
	_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
	check(t, err)
	i.wantNone(t, id)
}
