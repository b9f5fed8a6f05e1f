//go:build cluster

package main_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// TestClusterOutage takes the API server away for 20 seconds while an instance
// is made: that takes longer, and nothing else happens.
func TestClusterOutage(t *testing.T) {
	t.Parallel()
	c, proxy := clustertest.New(t), clustertest.NewProxy(t, os.Getenv("KUBECONFIG"))
	s := newClusterServer(t, c, "INSTANCE_HOSTNAME=games.example", "KUBECONFIG="+proxy.Kubeconfig)
	s.Start()
	notes := clustertest.NewExample(t, examples, "notes", "games.example")
	s.Must(http.MethodPost, "/challenge", map[string]any{"id": "outage", "scenario": pushTo(t, s.Registry, "notes:1", notes.Scenario)})
	label := kubernetes.LabelChallenge + "=outage"
	done := make(chan error, 1)
	go func() {
		answer, err := s.Call(t.Context(), http.MethodPost, "/instance", map[string]any{"challengeId": "outage", "sourceId": "1"})
		if err == nil && answer.Status != http.StatusOK {
			err = errors.New(answer.Raw)
		}
		done <- err
	}()
	clustertest.Eventually(t, 30*time.Second, "the instance is being made", func() error {
		list, err := c.Typed.AppsV1().Deployments("").List(t.Context(), metav1.ListOptions{LabelSelector: label})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("there is no deployment")
		}
		return err
	})
	if err := proxy.Cut(); err != nil {
		t.Fatal(err)
	}
	outage, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	select {
	case err := <-done:
		t.Fatalf("it ended within the outage: %v", err)
	case <-outage.Done():
	}
	if err := proxy.Mend(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("created %v after the API server was back", time.Since(back))
	at := s.Must(http.MethodGet, "/instance/outage/1", nil).ConnectionInfo
	clustertest.Eventually(t, 30*time.Second, "it is solved", func() error {
		_, err := notes.Solve(at)
		return err
	})
	s.Must(http.MethodDelete, "/challenge/outage", nil)
	c.WantNothing(label)
}
