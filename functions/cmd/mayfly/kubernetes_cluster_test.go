//go:build cluster

package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// upstream is a program of many scenarios, built with chall-manager's SDK.
const upstream = "../../../shared/kubernetes/testdata/upstream"

// newClusterServer prepares a server whose instances run in a namespace of
// their own, closed as operators close it: it is what lets pods look up names
// whose scenario says only which other pods they reach.
func newClusterServer(tb testing.TB, c *clustertest.Cluster, env ...string) *server {
	tb.Helper()
	namespace := c.Namespace()
	c.Close(namespace, "../../../config/base/instances/networkpolicy.yaml")
	return newServer(tb, append([]string{
		"KUBECONFIG=" + os.Getenv("KUBECONFIG"), "KUBERNETES=true", "KUBERNETES_TARGET_NAMESPACE=" + namespace,
		"SCENARIO_MEMORY=1024", "LOG_LEVEL=warn",
	}, env...)...)
}

// TestClusterUpstream has programs that were written for chall-manager
// deployed, played, updated in each way and deleted, unchanged; nothing of them
// is left.
func TestClusterUpstream(t *testing.T) {
	t.Parallel()
	c := clustertest.New(t)
	s := newClusterServer(t, c)
	s.Start()
	program := clustertest.Program(t, upstream)
	one, two := pushProgram(t, s, "one", program), pushProgram(t, s, "two", program)
	image := clustertest.Image(t, "answer", map[string][]byte{
		"program": clustertest.Program(t, "../../../shared/kubernetes/testdata/program"),
	})
	controller := c.IngressController()
	// What a player is answered; that of the multipod comes from its second
	// container, over the network, with what a file there holds.
	answers := map[string]string{
		"plain": "%s", "nodeport": "%s", "ingress": "%s", "kompose": "%s", "group": "%s", "multipod": "the back says %s flag{",
	}
	for kind, format := range answers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			additional := func(answer string) map[string]string {
				return map[string]string{
					"kind": kind, "image": image, "answer": answer, "host": c.NodeAddress(),
					"domain": "games.example", "ingressNamespace": controller.Namespace,
					"ingressLabels": metav1.FormatLabelSelector(metav1.SetAsLabelSelector(controller.Labels)),
				}
			}
			id := "upstream-" + kind
			began := time.Now()
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": one, "additional": additional("one")})
			t.Logf("tried and registered in %v", time.Since(began))
			began = time.Now()
			s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": "1"})
			t.Logf("created in %v", time.Since(began))
			wantAnswer(t, s, id, fmt.Sprintf(format, "one"))
			wantLabels(t, c, id)
			for _, u := range []struct{ strategy, scenario, answer string }{
				{"update_in_place", one, "two"}, {"blue_green", one, "three"}, {"recreate", one, "four"},
				{"update_in_place", two, "five"}, {"blue_green", one, "six"}, {"recreate", two, "seven"},
			} {
				began := time.Now()
				s.Must(http.MethodPatch, "/challenge/"+id, map[string]any{
					"scenario": u.scenario, "additional": additional(u.answer), "updateStrategy": u.strategy,
					"updateMask": "scenario,additional",
				})
				t.Logf("%s in %v", u.strategy, time.Since(began))
				wantAnswer(t, s, id, fmt.Sprintf(format, u.answer))
			}
			began = time.Now()
			s.Must(http.MethodDelete, "/instance/"+id+"/1", nil)
			t.Logf("deleted in %v", time.Since(began))
			c.WantNothing(kubernetes.LabelChallenge + "=" + id)
		})
	}
}

// pushProgram pushes a prebuilt program as a project of that name.
func pushProgram(tb testing.TB, s *server, project string, program []byte) string {
	tb.Helper()
	return pushTo(tb, s.Registry, project+":1", map[string][]byte{
		"Pulumi.yaml": []byte("name: " + project + "\nruntime: {name: go, options: {binary: ./main}}\n"),
		"main":        program,
	})
}

// wantAnswer plays what source 1 holds until it answers so: the network follows
// an update a moment later.
func wantAnswer(tb testing.TB, s *server, challenge, want string) {
	tb.Helper()
	at := s.Must(http.MethodGet, "/instance/"+challenge+"/1", nil).ConnectionInfo
	clustertest.Eventually(tb, 30*time.Second, at+" answers "+want, func() error {
		got, err := clustertest.Play(tb, at)
		if err == nil && !strings.Contains(got, want) {
			err = errors.New("it answers " + got)
		}
		return err
	})
}

// wantLabels fails unless the services of a challenge say whose they are.
func wantLabels(tb testing.TB, c *clustertest.Cluster, challenge string) {
	tb.Helper()
	services, err := c.Typed.CoreV1().Services("").List(tb.Context(), metav1.ListOptions{
		LabelSelector: kubernetes.LabelChallenge + "=" + challenge + "," + kubernetes.LabelTenant + "=default," + kubernetes.LabelIdentity,
	})
	if err != nil || len(services.Items) == 0 {
		tb.Errorf("no service has the labels of %s: %v", challenge, err)
	}
}
