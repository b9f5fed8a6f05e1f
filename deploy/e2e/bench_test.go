//go:build cluster

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	hello = "hello"
	// rounds is how often each function is started, and warm how often it is
	// called then.
	rounds = 10
	warm   = 20
	// shortest is the shortest window that Knative takes.
	shortest = "6s"
)

// BenchmarkClusterStart starts each function from zero, and in turn one that
// does nothing, in a pod of the same kind.
func BenchmarkClusterStart(b *testing.B) {
	i := install(b)
	names := []string{hello, "retrieve-instance", "query-challenge", "renew-instance", "create-challenge", "create-instance", "delete-instance", "expire"}
	i.addHello(b, i.image(b))
	for _, name := range names {
		i.shorten(b, name)
	}
	for b.Loop() {
		cold, answers := map[string][]time.Duration{}, map[string][]time.Duration{}
		for range rounds {
			for _, name := range names {
				clustertest.Eventually(b, 5*time.Minute, name+" is gone", func() error { return i.gone(b, name) })
				cold[name] = append(cold[name], i.ask(b, name))
				for range warm {
					answers[name] = append(answers[name], i.ask(b, name))
				}
			}
		}
		bare := median(cold[hello])
		fmt.Fprintln(os.Stdout, "| function | from zero p50 | against hello | warm p50 |\n|---|---|---|---|")
		for _, name := range names {
			fmt.Fprintf(os.Stdout, "| %s | %v | %+.0f %% | %v |\n", name, median(cold[name]).Round(time.Millisecond),
				100*(float64(median(cold[name]))/float64(bare)-1), median(answers[name]).Round(10*time.Microsecond))
			b.ReportMetric(float64(median(cold[name]).Milliseconds()), name+"-ms")
		}
	}
}

func median(all []time.Duration) time.Duration { return slices.Sorted(slices.Values(all))[len(all)/2] }

// image is one of a program that does nothing.
func (i *installation) image(b testing.TB) string {
	program := clustertest.Program(b, filepath.Join(root, "deploy", "install", "testdata", hello))
	return clustertest.Image(b, hello, map[string][]byte{"program": program})
}

func (i *installation) services() dynamic.ResourceInterface {
	return i.Objects.Resource(servingv1.SchemeGroupVersion.WithResource("services")).Namespace(i.namespace)
}

func (i *installation) service(b testing.TB, name string) *servingv1.Service {
	b.Helper()
	live, err := i.services().Get(b.Context(), name, metav1.GetOptions{})
	check(b, err)
	var s servingv1.Service
	check(b, runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &s))
	return &s
}

// addHello adds a function like a light one, but for the program.
func (i *installation) addHello(b testing.TB, image string) {
	b.Helper()
	like := i.service(b, "retrieve-instance")
	s := servingv1.Service{
		TypeMeta:   like.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: hello, Labels: like.Labels},
		Spec:       *like.Spec.DeepCopy(),
	}
	s.Spec.Template.Labels[nameLabel] = hello
	container := &s.Spec.Template.Spec.Containers[0]
	container.Image, container.Args = image, nil
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&s)
	check(b, err)
	_, err = i.services().Create(b.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	check(b, err)
}

// shorten has a function go soon when nobody calls it.
func (i *installation) shorten(b testing.TB, name string) {
	b.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{autoscaling.WindowAnnotationKey: shortest},
	}}}})
	check(b, err)
	_, err = i.services().Patch(b.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	check(b, err)
	clustertest.Eventually(b, 5*time.Minute, name+" is ready", func() error {
		s := i.service(b, name)
		ready := s.Status.GetCondition(apis.ConditionReady)
		if s.Status.ObservedGeneration != s.Generation || !ready.IsTrue() {
			return fmt.Errorf("%v", ready)
		}
		return nil
	})
}

// gone returns an error while a function has a pod that takes calls.
func (i *installation) gone(b testing.TB, name string) error {
	b.Helper()
	list, err := i.Typed.CoreV1().Pods(i.namespace).List(b.Context(), metav1.ListOptions{
		LabelSelector: labels.Set{nameLabel: name}.String(),
	})
	check(b, err)
	if slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp == nil }) {
		return fmt.Errorf("%d pods", len(list.Items))
	}
	return nil
}

// ask calls a function past the gateway and says how long it took.
func (i *installation) ask(b testing.TB, name string) time.Duration {
	b.Helper()
	began := time.Now()
	response, err := i.plain.Get(i.url(name) + "/healthcheck")
	check(b, err)
	_, err = io.Copy(io.Discard, response.Body)
	check(b, err)
	check(b, response.Body.Close())
	if response.StatusCode != http.StatusOK {
		b.Fatalf("%s answers %s", name, response.Status)
	}
	return time.Since(began)
}
