//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mayfly-ctf/mayfly/deploy/stack/stacktest"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// testPulumi runs the program of deploy through the engine, with the images of
// another installation and the overlay production, whose Redis has a volume:
// Mayfly works, the same again changes nothing, not even a tick that is on; made
// public it wants the token of everybody; and nothing is left of it.
func testPulumi(t *testing.T, other *installation) {
	disk := newVolume(t)
	s, i := newStack(t)
	disk.keepFor(t, i)
	c := stacktest.Configuration{
		Plain: map[string]any{
			"namespace": i.namespace, "images": other.images(t), "instanceDomain": "games.example",
			"settings": map[string]any{"OCI_INSECURE": true, "INGRESS_NAMESPACE": i.IngressController().Namespace},
		},
		Secret: map[string]string{"keys": redis.NewKey(), "redisPassword": strings.Repeat("0123456789abcdef", 2)},
	}
	check(t, s.Up(c))
	i.reach(t)
	claim, err := i.Typed.CoreV1().PersistentVolumeClaims(i.namespace).Get(t.Context(), "data-redis-0", metav1.GetOptions{})
	check(t, err)
	if claim.Spec.VolumeName != disk.name {
		t.Errorf("Redis is on the volume %q", claim.Spec.VolumeName)
	}
	testPlay(t, i)

	// What was deleted was due, so the tick was on: when it is off, no function switches it any more.
	clustertest.Eventually(t, 2*time.Minute, "the tick is off", func() error {
		if now := i.schedule(t); now != knative.ScheduleOff {
			return errors.New(now)
		}
		return nil
	})
	const schedule = "0 0 2 2 *" // as functions switch it, and without a tick meanwhile
	ticks := i.Objects.Resource(schema.GroupVersionResource{Group: "sources.knative.dev", Version: "v1", Resource: "pingsources"})
	_, err = ticks.Namespace(i.namespace).Patch(t.Context(), "expire", types.MergePatchType,
		[]byte(`{"spec":{"schedule":"`+schedule+`"}}`), metav1.PatchOptions{})
	check(t, err)
	before := i.generations(t)
	check(t, s.Up(c))
	if d := gocmp.Diff(before, i.generations(t)); d != "" {
		t.Errorf("the same again changes something: %s", d)
	}

	const token = "a-token-that-nobody-guesses"
	c.Secret["token"] = token
	c.Plain["public"], c.Plain["domain"] = "true", i.namespace+".example"
	check(t, s.Up(c))
	outside := i.service(t, "gateway").Status.URL
	for shown, want := range map[string]int{"": http.StatusUnauthorized, token: http.StatusNotFound} {
		if status := i.asked(t, outside.Host, shown); status != want {
			t.Errorf("from outside, with the token %q: %d, want %d", shown, status, want)
		}
	}
	if now := i.schedule(t); now != schedule {
		t.Errorf("the tick was switched to %q", now)
	}
	check(t, s.Destroy(t.Context()))
	i.WantNothing(kubernetes.LabelIdentity + "=" + string(s.Identity))
}

// modest has functions and Redis of a configuration ask for less, as others need
// the machine, too.
func modest(t *testing.T, configuration string) {
	t.Helper()
	requests := regexp.MustCompile(`requests: \{cpu: \d+m`)
	check(t, filepath.WalkDir(configuration, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, requests.ReplaceAll(text, []byte("requests: {cpu: 5m")), 0o600)
	}))
}

// newStack returns a stack, which is destroyed after the test, and where its
// installation is to be.
func newStack(t *testing.T) (*stacktest.Stack, *installation) {
	t.Helper()
	c := clustertest.New(t)
	self, err := os.Executable()
	check(t, err)
	program := stacktest.Build(t, root)
	modest(t, filepath.Join(string(program), "config"))
	s := stacktest.New(t, root, program, []string{self, "worker"}, []string{"KUBECONFIG=" + os.Getenv("KUBECONFIG")})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), upWithin)
		defer cancel()
		check(t, s.Destroy(ctx))
	})
	return s, &installation{Cluster: c, namespace: "mayfly-" + string(s.Identity)}
}

// images are those that the installation runs.
func (i *installation) images(t *testing.T) map[string]any {
	t.Helper()
	server, err := i.Typed.AppsV1().StatefulSets(i.namespace).Get(t.Context(), "redis", metav1.GetOptions{})
	check(t, err)
	image := func(function string) string { return i.service(t, function).Spec.Template.Spec.Containers[0].Image }
	return map[string]any{
		"api": image("gateway"), "engine": image("expire"), "redis": server.Spec.Template.Spec.Containers[0].Image,
	}
}

// generations are those of all that has some, with the schedule of the tick.
func (i *installation) generations(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{"schedule": i.schedule(t)}
	for _, of := range []schema.GroupVersionResource{
		{Group: "serving.knative.dev", Version: "v1", Resource: "services"},
		{Group: "sources.knative.dev", Version: "v1", Resource: "pingsources"},
		{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"},
		{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"},
		{Group: "apps", Version: "v1", Resource: "statefulsets"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	} {
		list, err := i.Objects.Resource(of).Namespace(i.namespace).List(t.Context(), metav1.ListOptions{})
		check(t, err)
		for _, object := range list.Items {
			found[object.GetKind()+" "+object.GetName()] = fmt.Sprint(object.GetUID(), " ", object.GetGeneration())
		}
	}
	return found
}

// asked returns the status of an answer from outside for an instance that is
// not there.
func (i *installation) asked(t *testing.T, host, token string) int {
	t.Helper()
	target := url.URL{Scheme: "http", Host: host, Path: "/api/v1/instance/none/1"}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target.String(), nil)
	check(t, err)
	if token != "" {
		request.SetBasicAuth("ctfd", token)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, clustertest.Ingress(t))
	}}}
	var status int
	clustertest.Eventually(t, time.Minute, "the gateway is reached from outside", func() error {
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		status = response.StatusCode
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode == http.StatusServiceUnavailable || response.Header.Get("Www-Authenticate") == "" && response.Header.Get("Content-Type") != "application/json" {
			return fmt.Errorf("the way is not open: %s", response.Status)
		}
		return nil
	})
	return status
}
