//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// probePort is where a probe takes questions.
const probePort = 8080

// testIsolation tries from pods to reach Redis and functions past Knative. Who
// has the labels of the gateway can, which shows that all of it is there; what
// runs elsewhere, or beside the instances, can't, though it reaches the ingress.
func testIsolation(t *testing.T, i *installation) {
	image := clustertest.Image(t, "probe", map[string][]byte{
		"program": clustertest.Program(t, filepath.Join(root, "shared", "isolation", "testdata", "probe")),
	})
	friend := i.probe(t, i.namespace, image, map[string]string{nameLabel: "gateway", "app.kubernetes.io/component": "function"})
	strangers := []probe{
		i.probe(t, metav1.NamespaceDefault, image, nil),
		// With this label the policy for scenarios that have none leaves it alone.
		i.probe(t, i.namespace+"-instances", image, map[string]string{"mayfly.dev/egress": "own"}),
	}
	reaches := func(p probe, targets map[string]string) {
		t.Helper()
		for name, address := range targets {
			clustertest.Eventually(t, time.Minute, p.namespace+" reaches "+name, func() error { return p.dial(t, address) })
		}
	}
	for _, p := range append(strangers, friend) {
		reaches(p, map[string]string{"the ingress": i.ingress})
	}
	ask(t, i.plain, i.url("gateway")+"/healthcheck", http.StatusOK) // so that its pod is there, for a minute at least
	ask(t, i.plain, i.url("retrieve-instance")+"/healthcheck", http.StatusOK)
	closed := i.closed(t)
	reaches(friend, closed)
	for _, stranger := range strangers {
		for name, address := range closed {
			if err := stranger.dial(t, address); err == nil {
				t.Errorf("%s reaches %s", stranger.namespace, name)
			}
		}
	}
	reaches(friend, closed) // it was there all the time
}

// closed are the addresses that functions, Knative and nobody else may reach.
func (i *installation) closed(t *testing.T) map[string]string {
	t.Helper()
	redis, err := i.Typed.CoreV1().Pods(i.namespace).Get(t.Context(), "redis-0", metav1.GetOptions{})
	check(t, err)
	found := map[string]string{"Redis": net.JoinHostPort(redis.Status.PodIP, strconv.Itoa(redisPort))}
	for _, function := range []string{"gateway", "retrieve-instance"} {
		pods := i.alive(t, function)
		if len(pods) == 0 {
			t.Fatalf("%s has no pod after a call", function)
		}
		for _, container := range pods[0].Spec.Containers {
			for _, port := range container.Ports {
				if port.Name == "user-port" || port.Name == "queue-port" { // its own, and that of Knative's proxy
					found[function+"'s "+container.Name] = net.JoinHostPort(pods[0].Status.PodIP, strconv.Itoa(int(port.ContainerPort)))
				}
			}
		}
	}
	if len(found) != 5 {
		t.Fatalf("found %v", found)
	}
	return found
}

// A probe is a pod that tells what it reaches.
type probe struct {
	*installation
	namespace, name string
}

// probe starts one with these labels, and removes it after the test.
func (i *installation) probe(t *testing.T, namespace, image string, labels map[string]string) probe {
	t.Helper()
	yes, no := true, false
	pods := i.Typed.CoreV1().Pods(namespace)
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "probe", Image: image,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	check(t, err)
	t.Cleanup(func() { check(t, pods.Delete(context.Background(), pod.Name, metav1.DeleteOptions{})) })
	return probe{i, namespace, pod.Name}
}

// dial returns an error unless a connection from the probe to an address opens.
// A probe that does not answer is waited for.
func (p probe) dial(t *testing.T, address string) error {
	t.Helper()
	var said string
	clustertest.Eventually(t, time.Minute, "the probe answers", func() error {
		answer, err := p.Typed.CoreV1().RESTClient().Get().Namespace(p.namespace).Resource("pods").
			Name(fmt.Sprintf("%s:%d", p.name, probePort)).SubResource("proxy").Suffix("dial").
			Param("network", "tcp").Param("address", address).DoRaw(t.Context())
		said = string(answer)
		if err == nil && said != "yes" && !strings.HasPrefix(said, "no: ") {
			err = errors.New(said)
		}
		return err
	})
	if said != "yes" {
		return errors.New(said)
	}
	return nil
}
