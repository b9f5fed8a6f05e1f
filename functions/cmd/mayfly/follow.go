package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

const (
	// rewatchFor is how long a watch that failed is left alone.
	rewatchFor = time.Second
	// longestLine is how much of a line of a log is shown at once, in bytes.
	longestLine = 4 << 10
)

// A follower shows what happens to one instance on a cluster: the events about
// its objects, and what its containers print.
type follower struct {
	cluster  *cluster
	identity ctf.Identity
	out      io.Writer
	running  sync.WaitGroup

	mu         sync.Mutex // also of out
	namespaces map[string]bool
	containers map[string]bool      // that are followed, by the id of the run
	told       map[types.UID]string // versions of events
	owned      map[types.UID]bool   // objects
}

// follow shows on out what happens from now on, until stop is called. What it
// may not see it does not show.
func follow(ctx context.Context, c *cluster, identity ctf.Identity, out io.Writer) (stop func()) {
	f := &follower{
		cluster: c, identity: identity, out: out,
		namespaces: map[string]bool{c.namespace: true}, containers: map[string]bool{},
		told: map[types.UID]string{}, owned: map[types.UID]bool{},
	}
	ctx, cancel := context.WithCancel(ctx)
	ready := make(chan struct{})
	f.running.Go(func() { f.events(ctx, c.namespace, ready) })
	f.running.Go(func() { f.pods(ctx) })
	select {
	case <-ready: // nothing that comes now is missed
	case <-time.After(clusterPatience):
	case <-ctx.Done():
	}
	return func() {
		cancel()
		f.running.Wait()
	}
}

// say writes one line.
func (f *follower) say(who, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	erase := ""
	if isTerminal(f.out) {
		erase = "\r\033[K" // of a line that shows progress
	}
	fmt.Fprintf(f.out, "%s%s  %s  %s\n", erase, time.Now().Format(time.TimeOnly), printable(who), printable(what, '\t'))
}

// pods watches the instance's pods: in all namespaces, or, if that is not
// allowed, in the one of the connection.
func (f *follower) pods(ctx context.Context) {
	resource := corev1.SchemeGroupVersion.WithResource("pods")
	selector := kubernetes.LabelIdentity + "=" + string(f.identity)
	see := func(o *unstructured.Unstructured) {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &pod); err == nil {
			f.pod(ctx, &pod)
		}
	}
	err := f.cluster.watch(ctx, resource, "", selector, nil, see, see)
	if apierrors.IsForbidden(err) {
		_ = f.cluster.watch(ctx, resource, f.cluster.namespace, selector, nil, see, see) // or nowhere
	}
}

// pod follows the containers of a pod that run or ran, and the events of a
// namespace that is new.
func (f *follower) pod(ctx context.Context, pod *corev1.Pod) {
	if f.first(f.namespaces, pod.Namespace) {
		f.running.Go(func() { f.events(ctx, pod.Namespace, nil) })
	}
	for _, c := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if last := c.LastTerminationState.Terminated; last != nil && f.first(f.containers, last.ContainerID) {
			f.running.Go(func() { f.log(ctx, pod, c.Name, url.Values{"previous": {"true"}}) })
		}
		// One that never began has no id.
		if (c.State.Running != nil || c.State.Terminated != nil) && c.ContainerID != "" && f.first(f.containers, c.ContainerID) {
			f.running.Go(func() { f.log(ctx, pod, c.Name, url.Values{"follow": {"true"}}) })
		}
	}
}

// first tells whether a name is new, and notes it.
func (f *follower) first(seen map[string]bool, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := seen[name]
	seen[name] = true
	return !known
}

// log shows what one container prints until it ends.
func (f *follower) log(ctx context.Context, pod *corev1.Pod, container string, query url.Values) {
	who := "log " + pod.Name
	if len(pod.Spec.Containers)+len(pod.Spec.InitContainers) > 1 {
		who += "/" + container
	}
	query.Set("container", container)
	lines, err := f.cluster.log(ctx, pod.Namespace, pod.Name, query)
	if err != nil {
		if ctx.Err() == nil {
			f.say(who, "can't be read: "+err.Error())
		}
		return
	}
	defer lines.Close()
	reader := bufio.NewReaderSize(lines, longestLine)
	for {
		line, _, err := reader.ReadLine()
		if err != nil {
			return
		}
		f.say(who, string(line))
	}
}

// events shows what is told about the instance's objects in a namespace. ready
// is closed once nothing new is missed; without it, what is old is shown too.
func (f *follower) events(ctx context.Context, namespace string, ready chan struct{}) {
	see := func(o *unstructured.Unstructured) {
		var event corev1.Event
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &event); err == nil {
			f.event(ctx, &event)
		}
	}
	old := see
	if ready != nil {
		old = nil
	}
	err := f.cluster.watch(ctx, corev1.SchemeGroupVersion.WithResource("events"), namespace, "", ready, old, see)
	if err != nil && ctx.Err() == nil {
		f.say("events", "can't be seen: "+err.Error())
	}
}

func (f *follower) event(ctx context.Context, e *corev1.Event) {
	about := e.InvolvedObject
	if !f.owns(ctx, about) {
		return
	}
	f.mu.Lock()
	repeated := f.told[e.UID] == e.ResourceVersion
	f.told[e.UID] = e.ResourceVersion
	f.mu.Unlock()
	if repeated {
		return
	}
	what := e.Reason + ": " + strings.TrimSpace(e.Message)
	if e.Type == corev1.EventTypeWarning {
		what = "WARNING " + what
	}
	if e.Count > 1 {
		what += fmt.Sprintf(" (%d times)", e.Count)
	}
	f.say(strings.ToLower(about.Kind)+" "+about.Name, what)
}

// owns tells whether an object is the instance's. Events do not say that
// themselves.
func (f *follower) owns(ctx context.Context, about corev1.ObjectReference) bool {
	if strings.Contains(about.Name, string(f.identity)) {
		return true
	}
	f.mu.Lock()
	owned, known := f.owned[about.UID]
	f.mu.Unlock()
	if known {
		return owned
	}
	resource, _ := meta.UnsafeGuessKindToResource(about.GroupVersionKind()) // right for what is built in
	live, err := f.cluster.objects.Resource(resource).Namespace(about.Namespace).Get(ctx, about.Name, metav1.GetOptions{})
	owned = err == nil && live.GetLabels()[kubernetes.LabelIdentity] == string(f.identity)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owned[about.UID] = owned
	return owned
}

// watch shows the objects that are there to old, if it is given, and every
// change to see, until ctx ends or the first look is refused. Both may see an
// object again. ready, if it is given, is closed after the first look.
func (c *cluster) watch(
	ctx context.Context, resource schema.GroupVersionResource, namespace, selector string,
	ready chan struct{}, old, see func(*unstructured.Unstructured),
) error {
	objects := c.objects.Resource(resource).Namespace(namespace)
	for first := true; ; first = false {
		options := metav1.ListOptions{LabelSelector: selector}
		if old == nil {
			options.Limit = 1 // it is only asked where to begin
		}
		list, err := objects.List(ctx, options)
		if first && ready != nil {
			close(ready)
		}
		if first && apierrors.IsForbidden(err) {
			return err
		}
		if err == nil {
			for i := range list.Items {
				if old != nil {
					old(&list.Items[i])
				}
			}
			options = metav1.ListOptions{LabelSelector: selector, ResourceVersion: list.GetResourceVersion(), AllowWatchBookmarks: true}
			err = c.changes(ctx, resource, namespace, options, see)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(rewatchFor):
			}
		}
		old = see // what came in between is in the next list
	}
}

// changes shows what changes until the watch ends, as watches do.
func (c *cluster) changes(
	ctx context.Context, resource schema.GroupVersionResource, namespace string, options metav1.ListOptions,
	see func(*unstructured.Unstructured),
) error {
	w, err := c.objects.Resource(resource).Namespace(namespace).Watch(ctx, options)
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		o, ok := event.Object.(*unstructured.Unstructured)
		switch {
		case event.Type == watch.Error:
			return errors.New("the watch ended")
		case ok && (event.Type == watch.Added || event.Type == watch.Modified):
			see(o)
		}
	}
	return nil
}
