//go:build cluster

package isolation_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// metadata is where clouds tell a machine its secrets.
	metadata = "169.254.169.254"
	// outside is an address of the Internet, of those that documents use.
	outside = "203.0.113.7"
)

// A target is something that an instance may try to reach.
type target struct{ network, address, send string }

// targets are what no instance may reach.
func (s *stage) targets(t *testing.T, victim *instance) map[string]target {
	t.Helper()
	const hello = "GET /user HTTP/1.0\r\n\r\n"
	found := map[string]target{
		"the metadata address":   {"tcp", s.listen(t, metadata), hello},
		"the kubelet":            {"tcp", net.JoinHostPort(s.node, "10250"), hello},
		"Redis of the node":      {"tcp", s.redis(t), "PING\r\n"},
		"another's exposed port": {"tcp", victim.at(t, "one", "8080/TCP"), hello},
		"the registry of images": {"tcp", clustertest.Registry(t), hello},
		"the Ingress controller": {"tcp", clustertest.Ingress(t), hello},
		"packets to the node":    {"udp", s.packets(t), "ping"},
	}
	pods, err := s.Typed.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: victim.selector()})
	ok(t, err)
	found["another's pod"] = target{"tcp", net.JoinHostPort(pods.Items[0].Status.PodIP, "8080"), hello}
	services, err := s.Typed.CoreV1().Services(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: victim.selector()})
	ok(t, err)
	for _, service := range services.Items {
		if service.Spec.Ports[0].Port == 8080 {
			found["another's service"] = target{"tcp", net.JoinHostPort(service.Spec.ClusterIP, "8080"), hello}
		}
	}
	for name, at := range s.apiServer(t) {
		found[name] = target{"tcp", at, hello}
	}
	platform := s.Namespace()
	pod, service := s.pod(t, platform, "function", s.image, 8080)
	found["a function's pod"], found["a function's service"] = target{"tcp", pod, hello}, target{"tcp", service, hello}
	pod, service = s.pod(t, platform, "redis", s.redisImage(t), 6379, "--protected-mode", "no", "--save", "")
	found["Redis' pod"], found["Redis' service"] = target{"tcp", pod, "PING\r\n"}, target{"tcp", service, "PING\r\n"}
	return found
}

// apiServer finds the addresses of the API server.
func (s *stage) apiServer(t *testing.T) map[string]string {
	t.Helper()
	service, err := s.Typed.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	ok(t, err)
	slices, err := s.Typed.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	ok(t, err)
	port := strconv.Itoa(int(*slices.Ports[0].Port))
	return map[string]string{
		"the API server's service": net.JoinHostPort(service.Spec.ClusterIP, "443"),
		"the API server's address": net.JoinHostPort(slices.Endpoints[0].Addresses[0], port),
	}
}

// pod runs an image and returns the addresses of its pod and service.
func (s *stage) pod(t *testing.T, namespace, name, image string, port int, args ...string) (pod, service string) {
	t.Helper()
	labels := map[string]string{"app": name}
	no := false
	_, err := s.Typed.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers:                   []corev1.Container{{Name: name, Image: image, Args: args}},
		},
	}, metav1.CreateOptions{})
	ok(t, err)
	made, err := s.Typed.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: labels, Ports: []corev1.ServicePort{{Port: int32(port), TargetPort: intstr.FromInt32(int32(port))}},
		},
	}, metav1.CreateOptions{})
	ok(t, err)
	number := strconv.Itoa(port)
	clustertest.Eventually(t, time.Minute, name+" runs", func() error {
		live, err := s.Typed.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && live.Status.PodIP == "" {
			err = fmt.Errorf("it is %s", live.Status.Phase)
		}
		if err != nil {
			return err
		}
		pod = net.JoinHostPort(live.Status.PodIP, number)
		conn, err := net.DialTimeout("tcp", pod, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return pod, net.JoinHostPort(made.Spec.ClusterIP, number)
}

// listen has a web server answer on an address that the node gets for it.
func (s *stage) listen(t *testing.T, address string) string {
	t.Helper()
	// Not "add", which fails if a run that was killed left the address.
	command(t, "ip", "address", "replace", address+"/32", "dev", "lo")
	t.Cleanup(func() { command(t, "ip", "address", "delete", address+"/32", "dev", "lo") })
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "80"))
	ok(t, err)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// packets has somebody on the node send packets back.
func (s *stage) packets(t *testing.T) string {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", net.JoinHostPort(s.node, "0"))
	ok(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		packet := make([]byte, 100)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(packet[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
	return conn.LocalAddr().String()
}

// redis starts a server on the node's own address.
func (s *stage) redis(t *testing.T) string {
	t.Helper()
	probe, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(s.node, "0"))
	ok(t, err)
	address := probe.Addr().String()
	ok(t, probe.Close())
	_, port, err := net.SplitHostPort(address)
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, "redis-server", "--bind", s.node, "--port", port, "--protected-mode", "no", "--save", "")
	server.Dir = t.TempDir()
	ok(t, server.Start())
	t.Cleanup(func() {
		cancel()
		_ = server.Wait()
	})
	wantPart(t, "Redis answers", func() string {
		got, err := exchange("tcp", address, "PING\r\n")
		return fmt.Sprint(got, err)
	}, "+PONG")
	return address
}

// redisImage packs this machine's redis-server with the libraries it needs.
func (s *stage) redisImage(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	ok(t, err)
	libraries, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	ok(t, err)
	files := map[string][]byte{"program": read(t, program)}
	for word := range strings.FieldsSeq(string(libraries)) {
		if path, isFile := strings.CutPrefix(word, "/"); isFile {
			files[path] = read(t, word)
		}
	}
	return clustertest.Image(t, "redis", files)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	ok(t, err)
	return content
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v: %s (this test runs as root, on a node)", name, strings.Join(args, " "), err, out)
	}
}
