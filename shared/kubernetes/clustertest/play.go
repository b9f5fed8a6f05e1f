package clustertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// playTimeout is how long a page may take to answer.
const playTimeout = 5 * time.Second

// A Controller is the cluster's Ingress controller: the namespace and the
// labels of its pods, which NetworkPolicies let in.
type Controller struct {
	Namespace string
	Labels    map[string]string
}

// IngressController finds the controller behind [Ingress].
func (c *Cluster) IngressController() Controller {
	c.tb.Helper()
	host, _, err := net.SplitHostPort(Ingress(c.tb))
	check(c.tb, err)
	services, err := c.Typed.CoreV1().Services("").List(c.tb.Context(), metav1.ListOptions{})
	check(c.tb, err)
	for _, s := range services.Items {
		addresses := slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs)
		for _, i := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, i.IP, i.Hostname)
		}
		if slices.Contains(addresses, host) {
			return Controller{s.Namespace, s.Spec.Selector}
		}
	}
	c.tb.Fatalf("no service has the address %s", host)
	return Controller{}
}

// Play asks for a page as a player does, once. Names are in no DNS: they are
// asked for at the Ingress controller. An answer that is no success is an error.
func Play(tb testing.TB, at string) (string, error) {
	tb.Helper()
	target, err := url.Parse(at)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if net.ParseIP(target.Hostname()) == nil {
		ingress := Ingress(tb)
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, ingress)
		}
	}
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport, Timeout: playTimeout}).Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", at, response.Status, body)
	}
	return string(body), err
}
