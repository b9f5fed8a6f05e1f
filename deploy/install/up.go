package install

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	labelPartOf = "app.kubernetes.io/part-of"
	partOf      = "mayfly"

	// webhooksAway is how long Knative's webhooks may be away.
	webhooksAway = time.Minute
	// look is the time between two looks at what is waited for.
	look = 500 * time.Millisecond
)

func ours() map[string]string { return map[string]string{labelPartOf: partOf} }

// Up makes the cluster run what the options say and returns when every
// function has answered once. Progress is written to out. It may be called
// again, also after it was interrupted: it changes what is not as it is to be,
// and removes what an earlier call made and the configuration has no more.
func (c *Cluster) Up(ctx context.Context, o Options, out io.Writer) error {
	objects, err := Render(o)
	if err != nil {
		return err
	}
	token, err := c.hasToken(ctx, o)
	if err != nil {
		return err
	}
	if err := checkPublic(objects, token); err != nil {
		return err
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(stage(a), stage(b)) })
	stages := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return stage(o) > 0 })
	if err := c.namespaces(ctx, objects[:stages]); err != nil {
		return err
	}
	before, err := c.remembered(ctx, o.namespace())
	if err != nil {
		return err
	}
	now := make([]identity, 0, len(objects))
	for _, object := range objects {
		now = append(now, identify(object))
	}
	gone := without(before, now)
	if err := c.remember(ctx, o.namespace(), append(slices.Clone(now), gone...)); err != nil {
		return err
	}
	if err := c.secrets(ctx, o); err != nil {
		return err
	}
	if err := c.roll(ctx, objects[stages:], out); err != nil {
		return err
	}
	for _, id := range gone {
		fmt.Fprintf(out, "removed  %s, which the configuration has no more\n", id)
		if err := c.remove(ctx, id); err != nil {
			return err
		}
	}
	return c.remember(ctx, o.namespace(), now)
}

// stage orders objects: each works only with those of the stages before.
func stage(object *unstructured.Unstructured) int { return stageOf(identify(object).GroupKind()) }

func stageOf(gk schema.GroupKind) int {
	switch {
	case gk.Kind == "Namespace":
		return 0
	case gk.Kind == "StatefulSet":
		return 2
	case gk.Group == "serving.knative.dev":
		return 3
	case gk.Group == "eventing.knative.dev", gk.Group == "sources.knative.dev":
		return 4
	}
	return 1
}

// namespaces makes the namespaces, unless somebody else has them.
func (c *Cluster) namespaces(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		live, err := c.get(ctx, identify(object))
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("look at %s: %w", identify(object), err)
		case live.GetLabels()[labelPartOf] != partOf:
			return fmt.Errorf("%s is there and not Mayfly's: choose another one with --namespace", identify(object))
		case live.GetDeletionTimestamp() != nil:
			return fmt.Errorf("%s is being deleted: wait until it is gone, as `make down` does", identify(object))
		}
	}
	for _, object := range objects {
		if _, err := c.apply(ctx, object, false); err != nil {
			return err
		}
	}
	return nil
}

// roll applies objects stage by stage and waits until what needs time works.
func (c *Cluster) roll(ctx context.Context, objects []*unstructured.Unstructured, out io.Writer) error {
	changed := 0
	for n, object := range objects {
		if stage(object) > 2 && n > 0 && stage(objects[n-1]) <= 2 { // functions want Redis
			if err := c.await(ctx, objects[:n], out); err != nil {
				return err
			}
		}
		did, err := c.applyPatiently(ctx, object)
		if err != nil {
			return err
		}
		if did {
			changed++
			fmt.Fprintf(out, "applied  %s\n", identify(object))
		}
	}
	fmt.Fprintf(out, "%d objects, %d of them changed\n", len(objects), changed)
	if err := c.await(ctx, objects, out); err != nil {
		return err
	}
	return c.answers(ctx, objects, out)
}

// applyPatiently applies an object although a webhook may be away, or somebody
// else changes the object at the same time.
func (c *Cluster) applyPatiently(ctx context.Context, object *unstructured.Unstructured) (bool, error) {
	for deadline := time.Now().Add(webhooksAway); ; {
		whole, err := c.keepSchedule(ctx, object)
		if err != nil {
			return false, err
		}
		changed, err := c.apply(ctx, whole, false)
		transient := apierrors.IsInternalError(err) || apierrors.IsConflict(err) || apierrors.IsServiceUnavailable(err)
		if err == nil || !transient || time.Now().After(deadline) {
			return changed, err
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

// keepSchedule leaves the schedule of the fast tick as it is: functions switch
// it. If they do so meanwhile, applying it is a conflict.
func (c *Cluster) keepSchedule(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	tick := schema.GroupKind{Group: "sources.knative.dev", Kind: "PingSource"}
	if object.GroupVersionKind().GroupKind() != tick || object.GetName() != "expire" {
		return object, nil
	}
	live, err := c.get(ctx, identify(object))
	if apierrors.IsNotFound(err) {
		return object, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", identify(object), err)
	}
	schedule, _, _ := unstructured.NestedString(live.Object, "spec", "schedule")
	object = object.DeepCopy()
	object.SetResourceVersion(live.GetResourceVersion())
	return object, unstructured.SetNestedField(object.Object, schedule, "spec", "schedule")
}

// pause waits until it is time to look again.
func pause(ctx context.Context) error {
	timer := time.NewTimer(look)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
