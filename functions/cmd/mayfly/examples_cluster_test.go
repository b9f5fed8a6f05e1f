//go:build cluster

package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// TestClusterExamples has two teams deploy each of the examples and solve it;
// each gets a flag of its own, and nothing is left.
func TestClusterExamples(t *testing.T) {
	t.Parallel()
	c := clustertest.New(t)
	controller := c.IngressController()
	s := newClusterServer(t, c, "INSTANCE_HOSTNAME=games.example", "INGRESS_NAMESPACE="+controller.Namespace)
	s.Start()
	for _, name := range clustertest.Examples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			example := clustertest.NewExample(t, examples, name, "games.example")
			s.Must(http.MethodPost, "/challenge", map[string]any{
				"id": name, "scenario": pushTo(t, s.Registry, name+":1", example.Scenario), "additional": example.Additional,
			})
			flags := map[string]bool{}
			for _, team := range []string{"1", "2"} {
				began := time.Now()
				s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": name, "sourceId": team})
				t.Logf("created in %v", time.Since(began))
				instance := s.Must(http.MethodGet, "/instance/"+name+"/"+team, nil)
				var flag string
				clustertest.Eventually(t, 30*time.Second, name+" is solved", func() (err error) {
					flag, err = example.Solve(instance.ConnectionInfo)
					return err
				})
				if !strings.Contains(instance.Raw, flag) {
					t.Errorf("team %s found %q, the platform checks %s", team, flag, instance.Raw)
				}
				flags[flag] = true
			}
			if len(flags) != 2 {
				t.Errorf("two teams have the flags %v", flags)
			}
			s.Must(http.MethodDelete, "/challenge/"+name, nil)
			c.WantNothing(kubernetes.LabelChallenge + "=" + name)
		})
	}
}

// pushExample pushes an example that needs no settings.
func pushExample(t *testing.T, s *server, name string) string {
	t.Helper()
	return pushTo(t, s.Registry, name+":1", clustertest.NewExample(t, examples, name, "games.example").Scenario)
}
