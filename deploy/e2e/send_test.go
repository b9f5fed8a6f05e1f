//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// newTick is an event that wakes expire and reconcile.
func newTick() cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetID(string(ctf.NewIdentity()))
	e.SetSource("/e2e")
	e.SetType(events.TickType)
	return e
}

// send gives an event to a function, past the broker.
func (i *installation) send(ctx context.Context, function string, e cloudevents.Event) error {
	return post(ctx, i.plain, i.url(function)+"/"+function, e)
}

// post returns an error unless the event is taken.
func post(ctx context.Context, client *http.Client, url string, e cloudevents.Event) error {
	request, err := cehttp.NewHTTPRequestFromEvent(ctx, url, e)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // the status alone says enough
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}

// broker is where events are published, and who reaches it: it has no address
// outside of the cluster, so the API server passes them on.
func (i *installation) broker(t testing.TB) (*http.Client, string) {
	t.Helper()
	live, err := i.of(eventingv1.SchemeGroupVersion.WithResource("brokers")).
		Get(t.Context(), "mayfly", metav1.GetOptions{})
	check(t, err)
	var broker eventingv1.Broker
	check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &broker))
	at := broker.Status.Address.URL
	name, namespace, _ := strings.Cut(at.Host, ".")
	namespace, _, _ = strings.Cut(namespace, ".")
	base, err := url.Parse(i.Config.Host)
	check(t, err)
	client, err := rest.HTTPClientFor(i.Config)
	check(t, err)
	return client, base.JoinPath("api/v1/namespaces", namespace, "services/http:"+name+":80/proxy", at.Path).String()
}

// logged returns an error unless a pod of the function has logged the text.
func (i *installation) logged(t testing.TB, function, text string) error {
	t.Helper()
	pods := i.Typed.CoreV1().Pods(i.namespace)
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: labels.Set{nameLabel: function}.String()})
	check(t, err)
	for _, pod := range list.Items {
		log, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{Container: "function"}).DoRaw(t.Context())
		if err == nil && strings.Contains(string(log), text) {
			return nil
		}
	}
	return errors.New("it is in no log")
}

// takeAwayFunction removes a function, and returns what brings it back.
func (i *installation) takeAwayFunction(t testing.TB, name string) (back func()) {
	t.Helper()
	made := takeAway(t, i.services(), name)
	clustertest.Eventually(t, time.Minute, name+" takes no calls", func() error { return i.gone(t, name) })
	return func() {
		t.Helper()
		made()
		i.wantHealth(t, name)
	}
}

// takeAway removes an object of Knative's, and returns what brings it back.
func takeAway(t testing.TB, from dynamic.ResourceInterface, name string) (back func()) {
	t.Helper()
	was, err := from.Get(t.Context(), name, metav1.GetOptions{})
	check(t, err)
	check(t, from.Delete(t.Context(), name, metav1.DeleteOptions{}))
	clustertest.Eventually(t, time.Minute, name+" is gone", func() error {
		_, err := from.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil {
			return errors.New("it is there")
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	})
	return func() {
		t.Helper()
		again := &unstructured.Unstructured{Object: map[string]any{"spec": was.Object["spec"]}}
		again.SetGroupVersionKind(was.GroupVersionKind())
		again.SetName(name)
		again.SetLabels(was.GetLabels())
		notes := maps.Clone(was.GetAnnotations())
		maps.DeleteFunc(notes, func(key, _ string) bool { // who made it is not ours to say
			return strings.HasSuffix(key, "/creator") || strings.HasSuffix(key, "/lastModifier")
		})
		again.SetAnnotations(notes)
		_, err := from.Create(t.Context(), again, metav1.CreateOptions{})
		check(t, err)
		clustertest.Eventually(t, 2*time.Minute, name+" is back", func() error {
			live, err := from.Get(t.Context(), name, metav1.GetOptions{})
			check(t, err)
			return isReady(live)
		})
	}
}

// isReady returns an error unless Knative has made of an object what it says now.
func isReady(live *unstructured.Unstructured) error {
	var now duckv1.KResource
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &now); err != nil {
		return err
	}
	if ready := now.Status.GetCondition(apis.ConditionReady); now.Status.ObservedGeneration != now.Generation || !ready.IsTrue() {
		return fmt.Errorf("%v", ready)
	}
	return nil
}
