//go:build cluster

package kubernetes_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// deployment is one whose container does what args say.
func deployment(image, args string) string {
	return fmt.Sprintf(`
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: %s
        %s
`, image, args)
}

// A deployment is reached over the network as soon as it is made, is updated in
// place, and its pods are gone when it is deleted.
func TestDeployment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	program := image(t)
	ready := "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}"
	m := b.create("apps/v1:Deployment", "web", deployment(program, "env: [{name: ANSWER, value: one}]\n        "+ready))
	service := b.create("core/v1:Service", "door", "spec: {type: NodePort, selector: {app: web}, ports: [{port: 8080}]}")
	port := service.outputs["spec"].ObjectValue()["ports"].ArrayValue()[0].ObjectValue()["nodePort"].NumberValue()
	url := fmt.Sprintf("http://%s:%d/", clustertest.New(t).NodeAddress(), int(port))
	answers := func(want string) {
		t.Helper()
		clustertest.Eventually(t, time.Minute, url+" answers", func() error {
			answer, err := clustertest.Play(t, url)
			if err == nil && answer != want {
				err = errors.New(answer)
			}
			return err
		})
	}
	answers("one")
	if d := b.diff(m, m.inputs); d.Changes != plugin.DiffNone {
		t.Errorf("unchanged: %+v", d)
	}
	news := b.inputs(m.urn, deployment(program, "env: [{name: ANSWER, value: two}]\n        "+ready))
	if d := b.diff(m, news); d.Changes != plugin.DiffSome || d.Replace() {
		t.Errorf("another environment: %+v", d)
	}
	m = b.update(m, news)
	answers("two")
	news = b.inputs(m.urn, strings.ReplaceAll(deployment(program, ready), "app: web", "app: other"))
	if d := b.diff(m, news); !d.Replace() {
		t.Errorf("another selector: %+v", d)
	}
	b.delete(m)
	pods, err := b.at("pods", b.namespace).List(t.Context(), metav1.ListOptions{})
	ok(t, err)
	if len(pods.Items) > 0 {
		t.Errorf("%d pods are left", len(pods.Items))
	}
}

// A failure names the object and what a person needs to know, and the resource
// is kept in the state.
func TestFailure(t *testing.T) {
	t.Parallel()
	program, nowhere := image(t), clustertest.Registry(t)+"/nowhere:1"
	limit := func(d time.Duration) func(*kubernetes.Options) {
		return func(o *kubernetes.Options) { o.ReadyTimeout = d }
	}
	cases := []struct {
		name, image, args string
		limit             time.Duration
		says              []string
	}{
		{"no image", nowhere, "", time.Minute, []string{nowhere, "can't be pulled", "not found"}},
		{"no command", program, "command: [/nothing]", time.Minute, []string{"container main can't be started", "no such file"}},
		{"crash", program, "args: [crash]\n        readinessProbe: {httpGet: {port: 8080}}", 40 * time.Second, []string{"container main", "exit code 3", "the database is on fire"}},
		{"no room", program, "resources: {requests: {cpu: 1000}}", 20 * time.Second, []string{"no node has room for it", "Insufficient cpu"}},
		{"no secret", program, "envFrom: [{secretRef: {name: gone}}]", 40 * time.Second, []string{`secret "gone" not found`}},
		{"no mount", program, "volumeMounts: [{name: v, mountPath: /v}]\n      volumes: [{name: v, configMap: {name: lost}}]", 40 * time.Second, []string{`configmap "lost" not found`}},
		{"not ready", program, "readinessProbe: {httpGet: {port: 9999}, periodSeconds: 1}", 40 * time.Second, []string{"a pod runs and is not ready", "Readiness probe failed"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, limit(c.limit))
			began := time.Now()
			m, err := b.tryCreate("apps/v1:Deployment", "web", deployment(c.image, c.args))
			if _, isInit := errors.AsType[*plugin.InitError](err); !isInit || m.id == "" || m.outputs == nil {
				t.Fatalf("id %q, error %v", m.id, err)
			}
			t.Logf("after %v: %v", time.Since(began), err)
			contains(t, err.Error(), append(c.says, "Deployment "+b.namespace+"/web")...)
			if d := b.diff(m, m.inputs); d.Changes != plugin.DiffSome {
				t.Errorf("it does not work, and %+v", d)
			}
			b.delete(m)
		})
	}
}

// A full quota and an admission's refusal are told as the API server says them.
func TestRefusedPods(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	quota := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "full"},
		"spec": map[string]any{"hard": map[string]any{"pods": "0", "configmaps": "3"}},
	}}
	eventually(t, "the cluster's own ConfigMap is there", func() bool { return b.get("configmaps", "kube-root-ca.crt") != nil })
	_, err := b.at("resourcequotas", b.namespace).Create(t.Context(), quota, metav1.CreateOptions{})
	ok(t, err)
	eventually(t, "the quota counts", func() bool {
		hard, _, _ := unstructured.NestedMap(b.get("resourcequotas", "full").Object, "status", "hard")
		return len(hard) == 2
	})
	m, err := b.tryCreate("apps/v1:Deployment", "web", deployment("i", ""))
	if err == nil || m.id == "" {
		t.Fatalf("id %q, error %v", m.id, err)
	}
	contains(t, err.Error(), "its pods are refused", "exceeded quota: full")
	b.create("core/v1:ConfigMap", "fits", "data: {a: b}") // beside the owner and the cluster's own
	_, err = b.tryCreate("core/v1:ConfigMap", "toomuch", "data: {a: b}")
	if err == nil {
		t.Fatal("made over the quota")
	}
	contains(t, err.Error(), "ConfigMap "+b.namespace, "exceeded quota: full")
}
