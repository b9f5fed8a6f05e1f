package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// lastLines is how much of a container's log an author is shown.
const lastLines = "10"

// A podWatch looks at the pods of a workload that is waited for, and ends the
// waiting when one of them can't ever work.
type podWatch struct {
	cluster *Cluster
	kind    kind
	fail    context.CancelCauseFunc
	// stale is why pods were refused before: that may be mended by now, and is
	// tried again in a while.
	stale string

	mu       sync.Mutex
	workload *unstructured.Unstructured
	last     map[string]*corev1.Pod // those in trouble, by name
}

// saw notes a newer state of the workload.
func (w *podWatch) saw(workload *unstructured.Unstructured) {
	w.mu.Lock()
	w.workload = workload
	w.mu.Unlock()
	if message := refusedPods(workload); message != "" && message != w.stale {
		w.fail(&FailureError{Object: describe(workload), Reason: "its pods are refused", Detail: message})
	}
}

// run watches until the context ends.
func (w *podWatch) run(ctx context.Context) {
	if !w.kind.hasPods || w.kind.name() == "batch/CronJob" {
		return
	}
	options, err := w.selection()
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		// An error here leaves the author with less of an explanation, no more.
		_, err := w.cluster.watch(ctx, w.cluster.pods(), w.workload.GetNamespace(), options,
			func(live *unstructured.Unstructured) (bool, error) { return false, w.look(ctx, live) })
		if err != nil {
			return
		}
	}
}

// selection finds the pods of the workload.
func (w *podWatch) selection() (metav1.ListOptions, error) {
	if w.kind.Kind == "Pod" {
		return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", w.workload.GetName()).String()}, nil
	}
	raw, found, err := unstructured.NestedMap(w.workload.Object, "spec", "selector")
	if err != nil || !found {
		return metav1.ListOptions{}, fmt.Errorf("%s has no selector", describe(w.workload))
	}
	var selector metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &selector); err != nil {
		return metav1.ListOptions{}, err
	}
	return metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&selector)}, nil
}

// look notes a pod in trouble. If it can't ever work, the waiting ends.
func (w *podWatch) look(ctx context.Context, live *unstructured.Unstructured) error {
	if live == nil {
		return nil
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, pod); err != nil {
		return err
	}
	t := troubleOf(pod)
	w.mu.Lock()
	if w.last == nil {
		w.last = map[string]*corev1.Pod{}
	}
	if t == nil || pod.DeletionTimestamp != nil {
		delete(w.last, pod.Name)
		t = nil
	} else {
		w.last[pod.Name] = pod
	}
	workload := w.workload
	w.mu.Unlock()
	if t != nil && t.final && w.isNewest(ctx, pod, workload) {
		w.fail(&FailureError{Object: describe(workload), Reason: t.reason, Detail: w.detail(ctx, pod, t)})
	}
	return nil
}

// isNewest tells a pod of the workload's newest template from those that an
// update is about to take away.
func (w *podWatch) isNewest(ctx context.Context, pod *corev1.Pod, workload *unstructured.Unstructured) bool {
	switch w.kind.Kind {
	case "Deployment":
		const revision = "deployment.kubernetes.io/revision"
		observed, _, _ := unstructured.NestedInt64(workload.Object, "status", "observedGeneration")
		if observed < workload.GetGeneration() || len(pod.OwnerReferences) == 0 {
			return false
		}
		sets := w.cluster.builtin[groupKind{"apps", "ReplicaSet"}]
		sets.Version = "v1"
		set, err := w.cluster.get(ctx, sets, objectName{pod.Namespace, pod.OwnerReferences[0].Name})
		return err == nil && set.GetAnnotations()[revision] == workload.GetAnnotations()[revision]
	case "StatefulSet", "DaemonSet":
		newest, _, _ := unstructured.NestedString(workload.Object, "status", "updateRevision")
		return newest == "" || pod.Labels["controller-revision-hash"] == newest
	}
	return true
}

// explain makes the failure of a workload whose time is over, from the pod that
// has the gravest trouble.
func (w *podWatch) explain(ctx context.Context, live *unstructured.Unstructured, reason, message string) error {
	w.mu.Lock()
	var pod *corev1.Pod
	var t *trouble
	for _, candidate := range w.last {
		if found := troubleOf(candidate); t == nil || found.grave > t.grave || found.grave == t.grave && candidate.Name < pod.Name {
			pod, t = candidate, found
		}
	}
	w.mu.Unlock()
	if pod == nil {
		if refused := refusedPods(live); refused != "" {
			reason, message = reason+": its pods are refused", refused
		}
		return &FailureError{Object: describe(live), Reason: reason, Detail: message}
	}
	return &FailureError{Object: describe(live), Reason: reason + ": " + t.reason, Detail: w.detail(ctx, pod, t)}
}

// detail adds to a pod's trouble what its container said last, or else what the
// cluster says of the pod.
func (w *podWatch) detail(ctx context.Context, pod *corev1.Pod, t *trouble) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	detail := t.detail
	if t.crashed {
		if log := w.cluster.lastWords(ctx, pod, t.container); log != "" {
			return detail + "; its last output:\n" + log
		}
		return detail + "; it printed nothing"
	}
	if t.vague {
		if warning := w.cluster.lastWarning(ctx, pod); warning != "" {
			return cmp.Or(detail, pod.Name) + ": " + warning
		}
	}
	return detail
}

// lastWords are the last lines of a container that ended, or ran before.
func (c *Cluster) lastWords(ctx context.Context, pod *corev1.Pod, container string) string {
	path := "/api/v1/namespaces/" + pod.Namespace + "/pods/" + pod.Name + "/log"
	for _, previous := range []string{"true", "false"} {
		log, err := c.text(ctx, path, url.Values{
			"container": {container}, "previous": {previous}, "tailLines": {lastLines}, "limitBytes": {"4096"},
		})
		// The kubelet says this in place of the log of a container that it has just
		// removed.
		removed := strings.HasPrefix(string(log), "unable to retrieve container logs for")
		if text := strings.TrimSpace(string(log)); err == nil && text != "" && !removed {
			return text
		}
	}
	return ""
}

// lastWarning is what the cluster last complained of about a pod.
func (c *Cluster) lastWarning(ctx context.Context, pod *corev1.Pod) string {
	events := kind{plural: "events", namespaced: true}
	events.Version, events.Kind = "v1", "Event"
	list, err := c.at(events, pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.AndSelectors(fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)),
			fields.OneTermEqualSelector("type", "Warning")).String(),
	})
	if err != nil {
		return ""
	}
	var newest, message string
	for _, event := range list.Items {
		at, _, _ := unstructured.NestedString(event.Object, "lastTimestamp")
		text, _, _ := unstructured.NestedString(event.Object, "message")
		if at >= newest {
			newest, message = at, text
		}
	}
	return strings.TrimSpace(message)
}

func (c *Cluster) pods() kind {
	k := c.builtin[groupKind{"", "Pod"}]
	k.Version = "v1"
	return k
}

// refusedPods is why the API server does not take a workload's pods, if that
// will not change by itself.
func refusedPods(workload *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(workload.Object, "status", "conditions")
	for _, c := range conditions {
		condition, ok := c.(map[string]any)
		if !ok || condition["type"] != "ReplicaFailure" || condition["status"] != "True" {
			continue
		}
		message := fmt.Sprint(condition["message"])
		for _, phrase := range []string{"exceeded quota", "failed quota", "violates PodSecurity", "denied the request", "is invalid", "usage per", "maximum", "minimum"} {
			if strings.Contains(message, phrase) {
				return message
			}
		}
	}
	return ""
}
