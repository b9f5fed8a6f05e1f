package install

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// prune removes what the configuration has no more, and returns what stays:
// ConfigMaps that a revision names, of which each change makes another one. An
// earlier revision may still serve, and be gone back to, as long as Knative
// keeps it; without them its next pod would not start.
func (c *Cluster) prune(ctx context.Context, namespace string, gone []identity, out io.Writer) (kept []identity, err error) {
	if len(gone) == 0 {
		return nil, nil
	}
	named, err := c.configMaps(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for _, id := range gone {
		if id.Kind == "ConfigMap" && id.Namespace == namespace && named[id.Name] {
			kept = append(kept, id)
			continue
		}
		fmt.Fprintf(out, "removed  %s, which the configuration has no more\n", id)
		if err := c.remove(ctx, id); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// configMaps are the names of those that revisions read.
func (c *Cluster) configMaps(ctx context.Context, namespace string) (map[string]bool, error) {
	at, err := c.at(servingv1.SchemeGroupVersion.WithKind("Revision"), namespace)
	if err != nil {
		return nil, err
	}
	list, err := at.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the revisions: %w", err)
	}
	named := map[string]bool{}
	for _, item := range list.Items {
		var revision servingv1.Revision
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &revision); err != nil {
			return nil, fmt.Errorf("read the revision %s: %w", item.GetName(), err)
		}
		for _, name := range configMapsOf(revision.Spec.PodSpec) {
			named[name] = true
		}
	}
	return named, nil
}

func configMapsOf(pod corev1.PodSpec) []string {
	var names []string
	for _, volume := range pod.Volumes {
		if volume.ConfigMap != nil {
			names = append(names, volume.ConfigMap.Name)
		}
	}
	for _, container := range pod.Containers {
		for _, from := range container.EnvFrom {
			if from.ConfigMapRef != nil {
				names = append(names, from.ConfigMapRef.Name)
			}
		}
	}
	return names
}
