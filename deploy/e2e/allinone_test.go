//go:build cluster

package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/serving/pkg/apis/autoscaling"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// allInOne is the function of func.yaml.
const allInOne = "mayfly"

// testAllInOne makes the smallest installation by the README's own commands, in
// namespaces of its own and beside the Redis of another installation. It works,
// and its ticks wake it.
func testAllInOne(t *testing.T, other *installation) {
	i := *other
	i.namespace = "mayfly-" + strings.ToLower(rand.Text()[:8])
	i.removeNamespaces(t)
	i.installSmallest(t, other.lend(t, i.namespace, 1))
	challenges, instances := i.clients(t, allInOne)
	clustertest.Eventually(t, turned, "the ingress leads to it", func() error {
		_, err := instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: "none", SourceId: "1"})
		if status.Code(err) != codes.NotFound {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})
	if scale := i.service(t, allInOne).Spec.Template.Annotations[autoscaling.MaxScaleAnnotationKey]; scale != "10" {
		t.Errorf("it has %q pods at most", scale)
	}
	for _, name := range []string{"expire", "reconcile"} {
		sink := i.works(t, sourcesv1.SchemeGroupVersion.WithResource("pingsources"), name, "sinkUri")
		check(t, post(t.Context(), i.plain, sink, newTick()))
	}
	id := "alone-" + strings.ToLower(rand.Text()[:8])
	_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{
		Id: id, Scenario: pushExample(t, "notes"), Timeout: durationpb.New(20 * time.Second),
	})
	check(t, err)
	created, err := i.plain.Post(i.url(allInOne)+"/api/v1/instance", "application/json",
		strings.NewReader(`{"challenge_id": "`+id+`", "source_id": "1"}`))
	check(t, err)
	check(t, created.Body.Close())
	if created.StatusCode != http.StatusOK {
		t.Fatalf("over REST an instance was answered with %s", created.Status)
	}
	instance, err := instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: id, SourceId: "1"})
	check(t, err)
	if schedule := i.schedule(t); schedule != knative.ScheduleOn {
		t.Errorf("the tick is %s while an instance is due", schedule)
	}
	clustertest.Eventually(t, time.Until(instance.GetUntil().AsTime())+tick+teardown, "the instance expired", func() error {
		if left := i.instances(t, id); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
	_, err = challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: id})
	check(t, err)
	i.wantNone(t, id)
}

// installSmallest runs what the README says of the smallest installation.
func (i *installation) installSmallest(t *testing.T, redis string) {
	t.Helper()
	s := i.terminal(t)
	images, rest := cut(t, documented(t, "func deploy"), "make images")
	said := s.run(t, images)
	image := regexp.MustCompile(clustertest.Registry(t) + `/\S+/` + allInOne + `@\S+`).FindString(said)
	s.dir, s.path = t.TempDir(), t.TempDir()
	program := clustertest.Program(t, filepath.Join("testdata", "func"))
	check(t, os.WriteFile(filepath.Join(s.path, "func"), program, 0o700)) // if there is no other
	i.rename(t, s.dir)
	s.names = strings.NewReplacer("registry.example/ctf/mayfly@sha256:…", image, "redis://:password@redis.example:6379", redis,
		"-n mayfly", "-n "+i.namespace, "create namespace mayfly", "create namespace "+i.namespace, ".mayfly.svc.", "."+i.namespace+".svc.")
	s.run(t, rest)
}

// rename copies what the README's commands read, for other namespaces and with
// the settings of a test.
func (i *installation) rename(t *testing.T, dir string) {
	t.Helper()
	names := strings.NewReplacer("namespace: mayfly", "namespace: "+i.namespace, ": mayfly-instances", ": "+i.namespace+"-instances",
		"  envs:\n", "  envs:\n    - {name: OCI_INSECURE, value: \"true\"}\n    - {name: INSTANCE_HOSTNAME, value: games.example}\n")
	files := os.DirFS(root)
	for _, from := range []string{"func.yaml", "config/base/access", "config/base/instances", "config/backup"} {
		check(t, fs.WalkDir(files, from, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, name)
			return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, []byte(names.Replace(string(text))), 0o600))
		}))
	}
}

// removeNamespaces has nothing be left after the test.
func (i *installation) removeNamespaces(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		for _, name := range []string{i.namespace, i.namespace + "-instances"} {
			err := i.Typed.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
}
