package install

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// A Scale bounds how many pods of a function run at the same time. What is nil
// is as the configuration says.
type Scale struct {
	// Min run also while nobody calls.
	Min *int `json:"min"`
	// Max is at least 1.
	Max *int `json:"max"`
}

// rescale sets the bounds of functions by their names. The error joins all that
// can't be.
func rescale(objects []*unstructured.Unstructured, scales map[string]Scale) error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(scales)) {
		at := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return isFunction(o) && o.GetName() == name })
		if at < 0 {
			wrong = append(wrong, fmt.Errorf("scale of %s: there is no function of that name", name))
			continue
		}
		if err := change(objects[at], scales[name].set); err != nil {
			wrong = append(wrong, fmt.Errorf("scale of %s: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

func (s Scale) set(function *servingv1.Service) error {
	template := &function.Spec.Template.ObjectMeta
	least, most := s.Min, s.Max
	for key, bound := range map[string]**int{autoscaling.MinScaleAnnotationKey: &least, autoscaling.MaxScaleAnnotationKey: &most} {
		if *bound == nil {
			n, err := strconv.Atoi(template.Annotations[key])
			if err != nil {
				return fmt.Errorf("read %s: %w", key, err)
			}
			*bound = &n
		}
		metav1.SetMetaDataAnnotation(template, key, strconv.Itoa(**bound))
	}
	switch {
	case *least < 0:
		return fmt.Errorf("min is %d, and no fewer than 0 pods can run", *least)
	case *most < 1:
		return fmt.Errorf("max is %d: without a pod nothing answers, it must be at least 1", *most)
	case *least > *most:
		return fmt.Errorf("min is %d and max is %d: min must not be more", *least, *most)
	}
	return nil
}
