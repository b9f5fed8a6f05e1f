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
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
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
	var err error
	if o.Volume, err = c.volume(ctx, o, out); err != nil {
		return err
	}
	objects, err := c.wanted(ctx, o)
	if err != nil {
		return err
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(stage(a), stage(b)) })
	stages := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return stage(o) > 0 })
	for _, namespace := range objects[:stages] {
		if _, err := c.apply(ctx, namespace, false); err != nil {
			return err
		}
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
	if err := c.secrets(ctx, o, objects); err != nil {
		return err
	}
	if err := c.rollOut(ctx, objects[stages:], out); err != nil {
		return err
	}
	kept, err := c.prune(ctx, o.namespace(), gone, out)
	if err != nil {
		return err
	}
	return c.remember(ctx, o.namespace(), append(now, kept...))
}

// Check returns what Up would refuse before it changed anything. Of the images
// only the names matter.
func (c *Cluster) Check(ctx context.Context, o Options) error {
	_, err := c.wanted(ctx, o)
	return err
}

// wanted is what the options ask for, unless it is not to be on this cluster.
func (c *Cluster) wanted(ctx context.Context, o Options) ([]*unstructured.Unstructured, error) {
	objects, err := Render(o)
	if err != nil {
		return nil, err
	}
	token, err := c.hasToken(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := CheckPublic(objects, token); err != nil {
		return nil, err
	}
	return objects, c.free(ctx, objects)
}

// lastStage is that of what calls functions.
const lastStage = 4

// stage orders objects: each works only with those of the stages before.
func stage(object *unstructured.Unstructured) int { return stageOf(identify(object).GroupKind()) }

func stageOf(gk schema.GroupKind) int {
	switch {
	case gk.Kind == "Namespace":
		return 0
	case gk.Kind == "StatefulSet":
		return 2
	case gk.Group == "serving.knative.dev" && gk.Kind == "Service":
		return 3
	case gk.Group == "eventing.knative.dev", gk.Group == "sources.knative.dev", gk.Kind == "DomainMapping":
		return lastStage
	}
	return 1
}

// free returns an error if somebody else has the namespaces.
func (c *Cluster) free(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if stage(object) > 0 {
			continue
		}
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
	if object.GroupVersionKind() != sourcesv1.SchemeGroupVersion.WithKind("PingSource") || object.GetName() != "expire" {
		return object, nil
	}
	var live sourcesv1.PingSource
	err := c.read(ctx, identify(object), &live)
	if apierrors.IsNotFound(err) {
		return object, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", identify(object), err)
	}
	object = object.DeepCopy()
	return object, change(object, func(tick *sourcesv1.PingSource) error {
		tick.ResourceVersion, tick.Spec.Schedule = live.ResourceVersion, live.Spec.Schedule
		return nil
	})
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
