//go:build cluster

package isolation_test

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	k8s "github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// TestIsolation tries from inside pods what can be reached. First from a pod
// without any policy, which shows that all of it is there, then from instances.
func TestIsolation(t *testing.T) {
	t.Parallel()
	all := programs()
	all["upstream"] = "../kubernetes/testdata/upstream"
	s := newStage(t, all)
	victim := s.web(t, nil)
	closed := s.targets(t, victim)
	away := target{"tcp", s.listen(t, outside), "GET / HTTP/1.0\r\n\r\n"}
	free := s.free(t)
	everything := maps.Clone(closed)
	everything["the Internet"] = away
	s.reaches(t, free, everything)
	if t.Failed() {
		t.Fatal("what can't be reached without a policy tells nothing")
	}
	s.unexposed(t, free, victim)
	s.Close(s.namespace, "../../config/base/instances/networkpolicy.yaml")

	t.Run("default", func(t *testing.T) {
		attacker := s.web(t, nil)
		s.confined(t, attacker.door(t), everything)
	})
	t.Run("internet", func(t *testing.T) {
		attacker := s.web(t, []k8s.Egress{{}})
		s.confined(t, attacker.door(t), closed)
		s.reaches(t, attacker.door(t), map[string]target{"the Internet": away})
	})
	t.Run("internet_of_a_cluster_with_public_addresses", func(t *testing.T) {
		attacker := s.web(t, []k8s.Egress{{}}, outside+"/32", s.node+"/32")
		s.confined(t, attacker.door(t), map[string]target{"a node's public address": away, "the kubelet": closed["the kubelet"]})
	})
	t.Run("scenarios_of_others", func(t *testing.T) {
		for _, kind := range []string{"nodeport", "plain"} {
			i := s.instance(t, "upstream", map[string]string{"kind": kind, "image": s.image, "host": s.node})
			i.up(t)
			at := door{t, strings.TrimPrefix(i.info, "http://")}
			wantPart(t, "a player reaches it", func() string { return at.ask("/user") }, "65532")
			clustertest.Eventually(t, soon, "the policy is in force for a new pod", func() error {
				if still := reached(try(at, closed)); len(still) > 0 {
					return fmt.Errorf("it reaches %s", still)
				}
				return nil
			})
			s.confined(t, at, closed)
			s.reaches(t, at, map[string]target{"the Internet": away})
		}
	})
}

// web is a running probe that players reach. What ClusterCIDRs are may be said.
func (s *stage) web(t *testing.T, egress []k8s.Egress, clusterCIDRs ...string) *instance {
	t.Helper()
	i := s.kit(t, "monopod", &k8s.ExposedMonopodArgs{
		Hostname: s.node, ClusterCIDRs: clusterCIDRs,
		Container: k8s.Container{
			Image: s.image, Args: []string{"http=:8080", "tcp=:7000"}, Requests: tiny(), Egress: egress,
			Ports: []k8s.PortBinding{{Port: 8080, ExposeType: k8s.ExposeNodePort}, {Port: 7000}},
		},
	})
	i.up(t)
	want(t, "a player reaches it", func() string { return i.door(t).ask("/user") }, "65532")
	return i
}

func (i *instance) door(t *testing.T) door { return door{t, i.at(t, "one", "8080/TCP")} }

// free is a probe in a namespace without policies.
func (s *stage) free(t *testing.T) door {
	t.Helper()
	pod, _ := s.pod(t, s.Namespace(), "free", s.image, 8080)
	return door{t, pod}
}

// try returns what a probe says of each target.
func try(from door, targets map[string]target) map[string]string {
	var mu sync.Mutex
	var trying sync.WaitGroup
	said := make(map[string]string)
	for name, at := range targets {
		trying.Go(func() {
			text := from.ask("/dial", "network", at.network, "address", at.address, "send", at.send)
			mu.Lock()
			defer mu.Unlock()
			said[name] = text
		})
	}
	trying.Wait()
	return said
}

// reaches fails unless all targets answer.
func (s *stage) reaches(t *testing.T, from door, targets map[string]target) {
	t.Helper()
	for name, at := range targets {
		wantPart(t, name+" at "+at.address, func() string {
			return from.ask("/dial", "network", at.network, "address", at.address, "send", at.send)
		}, "yes: ")
	}
}

// confined fails if a probe reaches any target, or can't look up names.
func (s *stage) confined(t *testing.T, from door, targets map[string]target) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		wantPart(t, "names over "+network, func() string {
			return from.ask("/lookup", "network", network, "name", "kubernetes.default.svc.cluster.local")
		}, "yes: ")
	}
	for name, said := range try(from, targets) {
		if !strings.HasPrefix(said, "no: ") {
			t.Errorf("%s at %s: %q", name, targets[name].address, said)
		}
	}
}

// unexposed fails if somebody whom no policy confines reaches the port of an
// instance that it does not expose.
func (s *stage) unexposed(t *testing.T, from door, victim *instance) {
	t.Helper()
	pods, err := s.Typed.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: victim.selector()})
	ok(t, err)
	at := net.JoinHostPort(pods.Items[0].Status.PodIP, "7000")
	if said := from.ask("/dial", "network", "tcp", "address", at); !strings.HasPrefix(said, "no: ") {
		t.Errorf("the port that is not exposed: %q", said)
	}
}

// reached are the names of the targets that answered.
func reached(said map[string]string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if strings.HasPrefix(said[name], "yes: ") {
			names = append(names, name)
		}
	}
	return names
}
