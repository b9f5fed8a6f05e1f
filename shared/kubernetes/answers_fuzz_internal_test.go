package kubernetes

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// An answering API server says the same to everybody.
type answering struct {
	status int
	body   string
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// FuzzLookUp has an API server answer anything to who asks for a kind. There is no
// such kind, or it is one whose objects can be addressed, and is asked for once.
func FuzzLookUp(f *testing.F) {
	f.Add(true, `{"resources":[{"name":"widgets/status","kind":"Widget"},{"name":"widgets","kind":"Widget","namespaced":true}]}`)
	f.Add(true, `{"resources":[{"name":"","kind":"Widget"},{"name":"..","kind":"Widget"},{"name":"a?b","kind":"Widget"}]}`)
	f.Add(true, `{"resources":{"kind":7}}`)
	f.Add(true, `<html>`)
	f.Add(false, `{"kind":"Status"}`)
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	f.Fuzz(func(t *testing.T, found bool, body string) {
		server := &answering{http.StatusOK, body}
		if !found {
			server.status = http.StatusNotFound
		}
		c := &Cluster{http: &http.Client{Transport: server}, base: &url.URL{Scheme: "http", Host: "h"}, custom: map[schema.GroupVersionKind]kind{}}
		k, err := c.lookUp(t.Context(), gvk)
		if err != nil {
			if _, absent := errors.AsType[*unknownKindError](err); !absent && (!found || !strings.Contains(err.Error(), "Widget")) || len(c.custom) > 0 {
				t.Errorf("not typed, or kept: %v", err)
			}
			return
		}
		if !found || k.GroupVersionKind != gvk || !k.custom || k.plural == "" || url.PathEscape(k.plural) != k.plural || strings.Trim(k.plural, ".") == "" {
			t.Errorf("of %s it is %+v", body, k)
		}
		server.body = ""
		if again, err := c.lookUp(t.Context(), gvk); err != nil || !reflect.DeepEqual(again, k) {
			t.Errorf("asked again it is %+v, %v", again, err)
		}
	})
}

// FuzzStatus has anything be the state of a live object. It is told from no more
// than that, and left as it is.
func FuzzStatus(f *testing.F) {
	kinds := []groupKind{
		{"", "Pod"}, {"", "Service"}, {"apps", "Deployment"}, {"apps", "StatefulSet"}, {"apps", "DaemonSet"}, {"batch", "Job"},
		{"", "PersistentVolumeClaim"}, {"apps", "ReplicaSet"}, {"example.com", "Widget"},
	}
	f.Add(byte(0), []byte("status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: m}]}"))
	f.Add(byte(0), []byte("status: {phase: Running, containerStatuses: [{name: c, restartCount: 5, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: OOMKilled}}}]}"))
	f.Add(byte(0), []byte("status: {initContainerStatuses: [{name: c, image: i, state: {waiting: {reason: ErrImagePull, message: not found}}}], containerStatuses: 7}"))
	f.Add(byte(1), []byte("{spec: {type: LoadBalancer, externalIPs: []}, status: {loadBalancer: {ingress: [{ip: a}]}}}"))
	f.Add(byte(1), []byte("{spec: {type: LoadBalancer, externalIPs: {}}, status: 7}"))
	f.Add(byte(2), []byte("{spec: {replicas: 1, selector: {matchLabels: {a: b}}}, status: {replicas: 1, conditions: [{type: ReplicaFailure, status: 'True', message: exceeded quota}, {type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}"))
	f.Add(byte(5), []byte("status: {conditions: [{type: Failed, status: 'True', message: m}], startTime: 7}"))
	f.Add(byte(8), []byte("{metadata: {annotations: {pulumi.com/waitFor: condition=Ready=False}}, status: {conditions: [7, {type: Ready, status: 'False'}]}}"))
	f.Add(byte(8), []byte("{metadata: {generation: a, annotations: [], deletionTimestamp: x}, status: {observedGeneration: -1}}"))
	builtin := builtinKinds()
	f.Fuzz(func(t *testing.T, which byte, text []byte) {
		live := &unstructured.Unstructured{}
		if yaml.Unmarshal(text, &live.Object) != nil || live.Object == nil {
			return
		}
		name := kinds[int(which)%len(kinds)]
		k, ok := builtin[name]
		if k.Version = "v1"; !ok {
			k.Group, k.Kind, k.custom = name.group, name.kind, true
		}
		live.SetAPIVersion(k.GroupVersion().String())
		live.SetKind(k.Kind)
		was := live.DeepCopy()
		s, err := statusOf(k, live)
		switch {
		case err != nil && s != standing{}:
			t.Errorf("it is %+v, and can't be told: %v", s, err)
		case err != nil && !strings.Contains(err.Error(), k.Kind):
			t.Errorf("nothing says whose status it is: %v", err)
		case err == nil && s.state != works && s.message == "":
			t.Errorf("nothing says why it is %+v", s)
		}
		if again, failed := statusOf(k, live); again != s || (failed == nil) != (err == nil) {
			t.Errorf("it is %+v %v, and then %+v %v", s, err, again, failed)
		}
		if refused := refusedPods(live); refused != "" && !strings.Contains(string(text), "ReplicaFailure") {
			t.Errorf("its pods are refused: %s", refused)
		}
		w := &podWatch{kind: k, workload: live}
		if options, err := w.selection(); err == nil && k.Kind != "Pod" && live.Object["spec"] == nil {
			t.Errorf("without a selector its pods are %+v", options)
		}
		if !reflect.DeepEqual(live, was) {
			t.Errorf("who looks at it changes it: %v, was %v", live, was)
		}
	})
}

// FuzzTrouble reads anything as the status of a pod. What keeps it from working is
// told in words, and is only final where that is sure.
func FuzzTrouble(f *testing.F) {
	f.Add([]byte("{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: m}]}"))
	f.Add([]byte("{phase: Running, containerStatuses: [{name: c, restartCount: 5, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: OOMKilled}}}]}"))
	f.Add([]byte("{initContainerStatuses: [{name: c, image: i, state: {waiting: {reason: ErrImagePull, message: not found}}}], containerStatuses: [{}]}"))
	f.Add([]byte("containerStatuses: [{state: {terminated: {exitCode: 0}}}, {state: {terminated: {exitCode: -1, reason: StartError, message: m}}}]"))
	f.Add([]byte("containerStatuses: [{name: a, state: {waiting: {reason: CreateContainerConfigError, message: runAsNonRoot}, running: {}}}]"))
	f.Add([]byte("conditions: [{type: Ready, status: 'False', reason: ContainersNotReady, message: m}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var status map[string]any
		if yaml.Unmarshal(text, &status) != nil {
			return
		}
		pod := &corev1.Pod{}
		if runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"status": status}, pod) != nil {
			return
		}
		was := pod.DeepCopy()
		trouble := troubleOf(pod)
		if !reflect.DeepEqual(pod, was) {
			t.Errorf("who looks at it changes it: %v, was %v", pod, was)
		}
		if trouble == nil {
			return
		}
		if trouble.reason == "" || trouble.crashed && trouble.vague || trouble.grave < mild || trouble.grave > fatal {
			t.Errorf("the trouble is %+v", trouble)
		}
		if trouble.final && len(pod.Status.ContainerStatuses)+len(pod.Status.InitContainerStatuses) == 0 {
			t.Errorf("without a container it is final: %+v", trouble)
		}
	})
}
