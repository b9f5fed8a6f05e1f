package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingv1beta1 "knative.dev/serving/pkg/apis/serving/v1beta1"
)

// notYet says what is missing until an object works; empty is nothing.
type notYet string

// await returns when all objects work.
func (c *Cluster) await(ctx context.Context, objects []*unstructured.Unstructured, out io.Writer) error {
	said := ""
	var before []string // the reasons of the last look
	for {
		var waiting, reasons []string
		for _, object := range objects {
			missing, err := c.state(ctx, identify(object))
			if err != nil {
				return ended(ctx, err, before)
			}
			if missing != "" {
				waiting = append(waiting, object.GetName())
				reasons = append(reasons, fmt.Sprintf("%s: %s", identify(object), missing))
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		before = reasons
		now := strings.Join(waiting, ", ")
		if len(waiting) == 1 {
			now = reasons[0]
		}
		if now != said {
			said = now
			fmt.Fprintf(out, "waiting  for %s\n", now)
		}
		if err := pause(ctx); err != nil {
			return ended(ctx, err, reasons)
		}
	}
}

// ended adds to the end of the time what was still missing.
func ended(ctx context.Context, err error, reasons []string) error {
	if ctx.Err() == nil {
		return err
	}
	why := context.Cause(ctx)
	if errors.Is(why, context.DeadlineExceeded) {
		why = errors.New("it takes too long")
	}
	return fmt.Errorf("%w; still missing:\n  %s", why, strings.Join(reasons, "\n  "))
}

func (c *Cluster) state(ctx context.Context, id identity) (notYet, error) {
	switch id.Group + "/" + id.Kind {
	case "serving.knative.dev/Service":
		var s servingv1.Service
		err := c.read(ctx, id, &s)
		return condition(s.GetGeneration(), s.Status.ObservedGeneration, s.Status.GetCondition(servingv1.ServiceConditionReady)), err
	case "serving.knative.dev/DomainMapping":
		var d servingv1beta1.DomainMapping
		err := c.read(ctx, id, &d)
		return condition(d.GetGeneration(), d.Status.ObservedGeneration, d.Status.GetCondition(servingv1beta1.DomainMappingConditionReady)), err
	case "eventing.knative.dev/Broker":
		var b eventingv1.Broker
		err := c.read(ctx, id, &b)
		return condition(b.GetGeneration(), b.Status.ObservedGeneration, b.Status.GetCondition(eventingv1.BrokerConditionReady)), err
	case "eventing.knative.dev/Trigger":
		var t eventingv1.Trigger
		err := c.read(ctx, id, &t)
		return condition(t.GetGeneration(), t.Status.ObservedGeneration, t.Status.GetCondition(eventingv1.TriggerConditionReady)), err
	case "sources.knative.dev/PingSource":
		var p sourcesv1.PingSource
		err := c.read(ctx, id, &p)
		return condition(p.GetGeneration(), p.Status.ObservedGeneration, p.Status.GetCondition(sourcesv1.PingSourceConditionReady)), err
	case "apps/StatefulSet":
		var s appsv1.StatefulSet
		if err := c.read(ctx, id, &s); err != nil || replicas(s) == "" {
			return "", err
		}
		unbound, err := c.unbound(ctx, s)
		return cmp.Or(unbound, replicas(s)), err
	}
	return "", nil
}

func condition(generation, observed int64, ready *apis.Condition) notYet {
	switch {
	case observed != generation || ready == nil:
		return "not looked at yet"
	case ready.IsTrue():
		return ""
	case ready.Message != "":
		return notYet(ready.Message)
	}
	return notYet("not ready: " + ready.Reason)
}

func replicas(s appsv1.StatefulSet) notYet {
	want := int32(1)
	if s.Spec.Replicas != nil {
		want = *s.Spec.Replicas
	}
	if s.Status.ObservedGeneration != s.Generation || s.Status.ReadyReplicas < want || s.Status.UpdatedReplicas < want {
		return notYet(fmt.Sprintf("%d of %d pods are ready", min(s.Status.ReadyReplicas, s.Status.UpdatedReplicas), want))
	}
	return ""
}

func isFunction(object *unstructured.Unstructured) bool {
	gvk := object.GroupVersionKind()
	return gvk.Group == servingv1.SchemeGroupVersion.Group && gvk.Kind == "Service"
}

// timeSince is how people read a duration.
func timeSince(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }
