package install

import (
	"context"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/networking/pkg/apis/networking"
	"knative.dev/serving/pkg/apis/serving"
)

// rollOut rolls the objects out. What is to be reached from outside and is not
// yet is reached only once no pod runs that may know of no token.
func (c *Cluster) rollOut(ctx context.Context, objects []*unstructured.Unstructured, out io.Writer) error {
	inside, opens, err := c.stillInside(ctx, objects)
	if err != nil {
		return err
	}
	if opens {
		if err := c.roll(ctx, inside, out); err != nil {
			return err
		}
	}
	return c.roll(ctx, objects, out)
}

// stillInside returns the objects as they are to be before any function is
// reached from outside that is not now, and whether there are such functions.
func (c *Cluster) stillInside(ctx context.Context, objects []*unstructured.Unstructured) (inside []*unstructured.Unstructured, opens bool, err error) {
	for _, object := range objects {
		if opensFunction(object) {
			live, err := c.get(ctx, identify(object))
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, false, fmt.Errorf("look at %s: %w", identify(object), err)
			}
			switch there := err == nil; {
			case !isFunction(object) && !there:
				opens = true
				continue
			case isFunction(object) && there && !opensFunction(live):
				opens = true
				object = closed(object)
			}
		}
		inside = append(inside, object)
	}
	return inside, opens, nil
}

// opensFunction tells whether an object makes a function reached from outside.
func opensFunction(object *unstructured.Unstructured) bool {
	return (isFunction(object) || object.GetKind() == "DomainMapping") &&
		object.GetLabels()[networking.VisibilityLabelKey] != serving.VisibilityClusterLocal
}

// closed returns a function inside of the cluster.
func closed(function *unstructured.Unstructured) *unstructured.Unstructured {
	function = function.DeepCopy()
	labels := function.GetLabels()
	labels[networking.VisibilityLabelKey] = serving.VisibilityClusterLocal
	function.SetLabels(labels)
	return function
}
