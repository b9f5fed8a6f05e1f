//go:build cluster

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
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
	rounds = 6
	warm   = 20
	// shortest is the shortest window that Knative takes.
	shortest = "6s"
	// missing is a call that every light function can answer: there is no such instance.
	missing = "/api/v1/instance/none/1"
)

// BenchmarkClusterStart starts each function from zero, and in turn one that
// does nothing, in a pod of the same kind. Then it calls one of them in every
// way while it is warm.
func BenchmarkClusterStart(b *testing.B) {
	i := install(b)
	all := append([]string{hello}, i.names(b)...)
	names := slices.Clone(all)
	i.addHello(b, i.image(b))
	for _, name := range names {
		i.shorten(b, name)
	}
	for b.Loop() {
		cold, answers := map[string][]time.Duration{}, map[string][]time.Duration{}
		through := "gateway, then retrieve-instance"
		for range rounds {
			// What was started before is still ending, which takes time from what comes
			// next: that is another one each time.
			rand.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
			for _, name := range names {
				clustertest.Eventually(b, 5*time.Minute, name+" is gone", func() error { return i.gone(b, name) })
				cold[name] = append(cold[name], ask(b, i.plain, i.url(name)+"/healthcheck", http.StatusOK))
				for range warm {
					answers[name] = append(answers[name], ask(b, i.plain, i.url(name)+"/healthcheck", http.StatusOK))
				}
			}
			for _, name := range []string{"gateway", "retrieve-instance"} {
				clustertest.Eventually(b, 5*time.Minute, name+" is gone", func() error { return i.gone(b, name) })
			}
			cold[through] = append(cold[through], ask(b, i.plain, i.url("gateway")+missing, http.StatusNotFound))
			for range warm {
				answers[through] = append(answers[through], ask(b, i.plain, i.url("gateway")+missing, http.StatusNotFound))
			}
		}
		table(b, []string{"function", "from zero p50", "p90", "against hello", "warm p50"}, func(row func(...any)) {
			for _, name := range append(all, through) {
				row(name, quantile(cold[name], 50), quantile(cold[name], 90),
					fmt.Sprintf("%.2f", float64(quantile(cold[name], 50))/float64(quantile(cold[hello], 50))), quantile(answers[name], 50))
			}
		})
		i.measureWays(b)
	}
}

// measureWays calls retrieve-instance at its pod, through Knative, and through
// the gateway, in turn.
func (i *installation) measureWays(b *testing.B) {
	ask(b, i.plain, i.url("gateway")+missing, http.StatusNotFound)
	pods := i.alive(b, "retrieve-instance")
	if len(pods) == 0 {
		b.Fatal("retrieve-instance has no pod after a call")
	}
	ways := []struct {
		name, url string
		client    *http.Client
	}{
		{"its pod", "http://" + net.JoinHostPort(pods[0].Status.PodIP, "8080"), &http.Client{Transport: &http.Transport{}}},
		{"Knative", i.url("retrieve-instance"), i.plain},
		{"the gateway", i.url("gateway"), i.plain},
	}
	took := make([][]time.Duration, len(ways))
	for range 50 * warm {
		for n, way := range ways {
			took[n] = append(took[n], ask(b, way.client, way.url+missing, http.StatusNotFound))
		}
	}
	table(b, []string{"retrieve-instance, warm, through", "p50", "p90"}, func(row func(...any)) {
		for n, way := range ways {
			row(way.name, quantile(took[n], 50), quantile(took[n], 90))
		}
	})
}

// table prints one, and a line after it.
func table(b testing.TB, head []string, rows func(row func(...any))) {
	b.Helper()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		texts := make([]string, len(cells))
		for n, cell := range cells {
			if d, ok := cell.(time.Duration); ok {
				cell = d.Round(max(time.Duration(100), d/1000).Truncate(100)) // three or four digits
			}
			texts[n] = fmt.Sprint(cell)
		}
		fmt.Fprintln(w, strings.Join(texts, "\t"))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	rows(row)
	fmt.Fprintln(w)
	check(b, w.Flush())
}

// quantile returns that one of a hundred.
func quantile(all []time.Duration, of int) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)*of/100]
}

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

// names are all functions, sorted.
func (i *installation) names(b testing.TB) []string {
	b.Helper()
	list, err := i.services().List(b.Context(), metav1.ListOptions{})
	check(b, err)
	var names []string
	for _, s := range list.Items {
		names = append(names, s.GetName())
	}
	slices.Sort(names)
	return names
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
	i.annotate(b, name, map[string]string{
		autoscaling.WindowAnnotationKey: shortest, autoscaling.ScaleToZeroPodRetentionPeriodKey: "0s",
	})
}

// annotate has a function be scaled otherwise, and waits until it is.
func (i *installation) annotate(b testing.TB, name string, annotations map[string]string) {
	b.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": annotations,
	}}}})
	check(b, err)
	_, err = i.services().Patch(b.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	check(b, err)
	i.awaitReady(b, name)
}

// awaitReady waits until a function is what it was last told to be.
func (i *installation) awaitReady(b testing.TB, name string) {
	b.Helper()
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
	if pods := i.alive(b, name); len(pods) > 0 {
		return fmt.Errorf("%d pods", len(pods))
	}
	return nil
}

// alive are the pods of a function that are not told to stop.
func (i *installation) alive(b testing.TB, name string) []corev1.Pod {
	b.Helper()
	list, err := i.Typed.CoreV1().Pods(i.namespace).List(b.Context(), metav1.ListOptions{
		LabelSelector: labels.Set{nameLabel: name}.String(),
	})
	check(b, err)
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// ask calls an address and says how long the answer took.
func ask(b testing.TB, client *http.Client, url string, want int) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	check(b, err)
	began := time.Now()
	response, err := client.Do(request)
	check(b, err)
	_, err = io.Copy(io.Discard, response.Body)
	check(b, err)
	check(b, response.Body.Close())
	took := time.Since(began)
	if response.StatusCode != want {
		b.Fatalf("%s answers %s", url, response.Status)
	}
	return took
}
