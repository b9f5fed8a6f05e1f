package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	// These annotations are those of Pulumi's own provider.
	annotationSkip    = "pulumi.com/skipAwait"
	annotationTimeout = "pulumi.com/timeoutSeconds"
	// annotationWaitFor names a condition that is waited for, as condition=Ready
	// or condition=Synced=False. Without it an object of a custom kind of which
	// no controller has said anything yet is taken to work.
	annotationWaitFor = "pulumi.com/waitFor"
)

// A FailureError says that an object does not work, or does not go, and why.
type FailureError struct {
	Object string // kind and name
	Reason string
	Detail string
}

// Error names the object, the reason and what is known besides.
func (f *FailureError) Error() string {
	if f.Detail == "" {
		return f.Object + ": " + f.Reason
	}
	return f.Object + ": " + f.Reason + ": " + f.Detail
}

type state int

const (
	starting state = iota
	works
	broken
)

// A standing is the state of an object and what is said of it.
type standing struct {
	state   state
	message string
}

// statusOf tells whether an object works: as kstatus says, but for the kinds of
// which it asks too much or too little.
func statusOf(k kind, live *unstructured.Unstructured) (standing, error) {
	switch k.name() {
	case "PersistentVolumeClaim", "autoscaling/HorizontalPodAutoscaler":
		return standing{state: works}, nil // bound, or in use, only with a pod that comes later
	case "Service":
		s, err := serviceStatus(live)
		if err != nil {
			return standing{}, fmt.Errorf("understand the status of %s: %w", describe(live), err)
		}
		return s, nil
	}
	if live.GetAnnotations()[annotationSkip] == "true" {
		return standing{state: works}, nil
	}
	result, err := compute(live)
	if err != nil {
		return standing{}, fmt.Errorf("understand the status of %s: %w", describe(live), err)
	}
	message := cmp.Or(result.Message, "it does not say why")
	switch result.Status {
	case status.CurrentStatus:
		return waitedFor(live), nil
	case status.FailedStatus:
		return standing{state: broken, message: message}, nil
	}
	return standing{message: message}, nil
}

// compute is what kstatus says, which panics on some of what it does not expect.
// The worker outlives that, to record what it did.
func compute(live *unstructured.Unstructured) (result *status.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			result, err = nil, fmt.Errorf("it is none that is known: %v", r)
		}
	}()
	return status.Compute(live)
}

// waitedFor looks for the condition that the object's author wants.
func waitedFor(live *unstructured.Unstructured) standing {
	wanted, ok := strings.CutPrefix(live.GetAnnotations()[annotationWaitFor], "condition=")
	if !ok {
		return standing{state: works}
	}
	name, value, _ := strings.Cut(wanted, "=")
	conditions, _, _ := unstructured.NestedFieldNoCopy(live.Object, "status", "conditions")
	for _, condition := range members(conditions) {
		if condition["type"] == name && condition["status"] == cmp.Or(value, "True") {
			return standing{state: works}
		}
	}
	return standing{message: "its condition " + name + " is not " + cmp.Or(value, "True")}
}

// serviceStatus waits for the address of a load balancer: programs show it.
func serviceStatus(live *unstructured.Unstructured) (standing, error) {
	kind, _, err := unstructured.NestedString(live.Object, "spec", "type")
	if err != nil || kind != "LoadBalancer" || live.GetAnnotations()[annotationSkip] == "true" {
		return standing{state: works}, err
	}
	ingress, _, err := unstructured.NestedSlice(live.Object, "status", "loadBalancer", "ingress")
	if err != nil || len(ingress) > 0 {
		return standing{state: works}, err
	}
	external, _, err := unstructured.NestedSlice(live.Object, "spec", "externalIPs")
	if err != nil || len(external) > 0 {
		return standing{state: works}, err
	}
	return standing{message: "the load balancer has no address yet"}, nil
}

// waitReady waits until the object works and returns it as it is then. It
// returns the newest it saw with an error, which is a [FailureError] if the object
// is the cause.
func (p *Provider) waitReady(
	ctx context.Context, k kind, live *unstructured.Unstructured, limit time.Duration,
) (*unstructured.Unstructured, error) {
	if seconds, err := strconv.Atoi(live.GetAnnotations()[annotationTimeout]); err == nil && seconds > 0 {
		limit = time.Duration(seconds) * time.Second
	}
	if s, err := statusOf(k, live); err != nil || s.state == works {
		return live, err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	waiting, fail := context.WithCancelCause(waiting)
	pods := &podWatch{cluster: p.cluster, kind: k, workload: live, fail: fail, stale: refusedPods(live)}
	var watching sync.WaitGroup
	watching.Go(func() { pods.run(waiting) })
	var last standing
	err := p.cluster.follow(waiting, k, live, func(now *unstructured.Unstructured) (bool, error) {
		if now == nil || now.GetUID() != live.GetUID() {
			return true, &FailureError{Object: describe(live), Reason: "somebody deleted it while it was waited for"}
		}
		live = now
		pods.saw(now)
		s, err := statusOf(k, now)
		if err != nil {
			return true, err
		}
		last = s
		return s.state == works || s.state == broken, nil
	})
	fail(nil)
	watching.Wait()
	switch {
	case err == nil && last.state == broken:
		return live, pods.explain(ctx, live, "it failed", last.message)
	case errors.Is(err, errTooLong):
		return live, pods.explain(ctx, live, "it is not ready after "+limit.String(), last.message)
	}
	return live, err
}
