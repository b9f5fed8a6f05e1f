//go:build cluster

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// kubectlPatience is how long kubectl may wait for many pods.
const kubectlPatience = "--timeout=10m"

// A kubectl runs the command in one namespace.
type kubectl struct {
	program   string
	namespace string
	home      string // it remembers there what kinds the cluster has
}

func findKubectl(b *testing.B, namespace string) kubectl {
	b.Helper()
	program := os.Getenv("KUBECTL")
	if program == "" {
		program = "kubectl"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		b.Fatalf("%v: put kubectl on the PATH, or set KUBECTL", err)
	}
	return kubectl{program: program, namespace: namespace, home: b.TempDir()}
}

func (k kubectl) run(args ...string) error {
	cmd := exec.Command(k.program, append(args, "--namespace", k.namespace)...)
	cmd.Env = append(os.Environ(), "HOME="+k.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Twins are copies of what an instance is made of, as kubectl takes them.
type twins struct {
	file       string
	identities []string
	selector   string
}

// launch applies the twins and waits for them, and returns when each step of
// each was seen.
func (k kubectl) launch(s *clusterSite, t twins) []timeline {
	s.b.Helper()
	called := time.Now()
	s.check(k.run("apply", "--filename", t.file))
	s.check(k.run("wait", "deployment", "--selector", t.selector, "--for", "condition=Available", kubectlPatience))
	answered := time.Now()
	var all []timeline
	for _, identity := range t.identities {
		steps, err := s.observer.timeline(identity)
		s.check(err)
		steps.called, steps.answered = called, answered
		all = append(all, steps)
	}
	return all
}

// remove deletes the twins, and returns when they and their pods are gone.
func (k kubectl) remove(s *clusterSite, t twins) {
	s.b.Helper()
	s.check(k.run("delete", "--filename", t.file, "--cascade=foreground", kubectlPatience))
}

// twins reads what Mayfly applied for an instance, and writes copies without
// what the API server and Mayfly added. Each copy has an identity of its own.
func (s *clusterSite) twins(identity string, count int) twins {
	s.b.Helper()
	parts := s.parts(identity)
	group := string(ctf.NewIdentity())
	t := twins{file: filepath.Join(s.b.TempDir(), "twins.json"), selector: "bench=" + group}
	var out bytes.Buffer
	for range count {
		twin := string(ctf.NewIdentity())
		t.identities = append(t.identities, twin)
		for _, part := range parts {
			labels := part.GetLabels()
			labels["bench"] = group
			part.SetLabels(labels)
			text, err := json.Marshal(part)
			s.check(err)
			// Names, labels and selectors all have the identity in them.
			out.Write(bytes.ReplaceAll(text, []byte(identity), []byte(twin)))
			out.WriteByte('\n')
		}
	}
	s.check(os.WriteFile(t.file, out.Bytes(), 0o600))
	return t
}

// benchKinds are all that the kit makes, in the order in which people write
// them.
var benchKinds = []schema.GroupVersionResource{
	{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	{Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "secrets"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Version: "v1", Resource: "services"},
	{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
}

// parts returns what the scenario described, as it was before it was applied.
func (s *clusterSite) parts(identity string) []*unstructured.Unstructured {
	s.b.Helper()
	selector := kubernetes.LabelIdentity + "=" + identity
	var parts []*unstructured.Unstructured
	for _, kind := range benchKinds {
		list, err := s.cluster.Objects.Resource(kind).Namespace(s.namespace).List(s.b.Context(), metav1.ListOptions{LabelSelector: selector})
		s.check(err)
		for i := range list.Items {
			// What owns the others is none of the scenario's.
			if part := &list.Items[i]; len(part.GetOwnerReferences()) > 0 {
				strip(part)
				parts = append(parts, part)
			}
		}
	}
	return parts
}

// strip removes what the API server and Mayfly add to an object.
func strip(o *unstructured.Unstructured) {
	for _, field := range [][]string{
		{"status"}, {"metadata", "uid"}, {"metadata", "resourceVersion"}, {"metadata", "generation"}, {"metadata", "creationTimestamp"},
		{"metadata", "managedFields"}, {"metadata", "ownerReferences"}, {"metadata", "namespace"},
		{"spec", "clusterIP"}, {"spec", "clusterIPs"},
	} {
		unstructured.RemoveNestedField(o.Object, field...)
	}
	for _, field := range [][]string{
		{"metadata", "labels"}, {"metadata", "annotations"},
		{"spec", "template", "metadata", "labels"}, {"spec", "template", "metadata", "annotations"},
	} {
		marks, found, err := unstructured.NestedStringMap(o.Object, field...)
		if !found || err != nil {
			continue
		}
		for mark := range marks {
			if family, _, _ := strings.Cut(mark, "/"); family == "mayfly.dev" || family == "deployment.kubernetes.io" {
				unstructured.RemoveNestedField(o.Object, append(field, mark)...)
			}
		}
	}
}
