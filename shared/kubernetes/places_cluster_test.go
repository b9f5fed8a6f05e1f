//go:build cluster

package kubernetes_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// A door is what serves Ingresses: its address, and the namespace and labels of
// its pods.
type door struct{ address, namespace, labels string }

func findDoor(t *testing.T) door {
	t.Helper()
	d := door{address: clustertest.Ingress(t)}
	host, _, err := net.SplitHostPort(d.address)
	ok(t, err)
	services, err := clustertest.New(t).Typed.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	ok(t, err)
	for _, s := range services.Items {
		addresses := slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs)
		for _, i := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, i.IP, i.Hostname)
		}
		if slices.Contains(addresses, host) {
			d.namespace, d.labels = s.Namespace, metav1.FormatLabelSelector(metav1.SetAsLabelSelector(s.Spec.Selector))
			return d
		}
	}
	t.Fatalf("no service has the address %s", host)
	return d
}

// play asks as a player would.
func (d door) play(url string) string {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		return ask(d.address, strings.TrimPrefix(url, "http://"))
	}
	return ask(net.JoinHostPort(host, port), host)
}

// ask returns what the address answers for a host, or why it does not.
func ask(address, host string) string {
	request, err := http.NewRequest(http.MethodGet, "http://"+address, nil)
	if err != nil {
		return err.Error()
	}
	request.Host = host
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 200))
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// nothingLeft fails if anything of the instance stays, of whatever kind the
// cluster has. What the cluster derives from our objects goes a moment later.
func nothingLeft(t *testing.T, identity ctf.Identity) {
	t.Helper()
	cluster, selector := clustertest.New(t), kubernetes.LabelIdentity+"="+string(identity)
	for _, name := range cluster.List(selector) {
		if !strings.HasPrefix(name, "Endpoint") {
			t.Errorf("left: %s", name)
		}
	}
	cluster.WantNothing(selector)
}

// image builds the test's program and pushes it to the cluster's registry.
func image(t *testing.T) string {
	t.Helper()
	program := clustertest.Program(t, "testdata/program")
	return clustertest.Image(t, "program", map[string][]byte{"program": program})
}
