package install

import (
	"context"
	"fmt"
	"io"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultClass is the annotation of the StorageClass of claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// volume decides whether Redis of the overlay local has a volume: if it had
// one before, or if it is new and the cluster provides volumes.
func (c *Cluster) volume(ctx context.Context, o Options, out io.Writer) (bool, error) {
	if o.Volume || o.Overlay != localOverlay || o.Redis != "" {
		return o.Volume, nil
	}
	var redis appsv1.StatefulSet
	err := c.read(ctx, identity{appsv1.SchemeGroupVersion.WithKind("StatefulSet"), o.namespace(), "redis"}, &redis)
	switch {
	case err == nil:
		return len(redis.Spec.VolumeClaimTemplates) > 0, nil
	case !apierrors.IsNotFound(err):
		return false, fmt.Errorf("look at Redis: %w", err)
	}
	provided, err := c.providesVolumes(ctx)
	if err == nil && !provided {
		fmt.Fprintln(out, "redis    loses its data with its pod: no StorageClass of the cluster is the default (with a volume of your own: --redis-volume)")
	}
	return provided, err
}

// providesVolumes tells whether a claim that names no StorageClass gets a
// volume. Who may not look takes it that there are none.
func (c *Cluster) providesVolumes(ctx context.Context) (bool, error) {
	at, err := c.at(storagev1.SchemeGroupVersion.WithKind("StorageClass"), "")
	if err != nil {
		return false, err
	}
	classes, err := at.List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the StorageClasses: %w", err)
	}
	for _, class := range classes.Items {
		if class.GetAnnotations()[defaultClass] == "true" {
			return true, nil
		}
	}
	return false, nil
}

// unbound says which claims of a StatefulSet have no volume yet; empty is none.
func (c *Cluster) unbound(ctx context.Context, s appsv1.StatefulSet) (notYet, error) {
	for _, template := range s.Spec.VolumeClaimTemplates {
		var claim corev1.PersistentVolumeClaim
		name := template.Name + "-" + s.Name + "-0" // the first pod's: others come after it
		err := c.read(ctx, identity{corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), s.Namespace, name}, &claim)
		if apierrors.IsNotFound(err) {
			continue // not made yet
		}
		if err != nil {
			return "", err
		}
		if claim.Status.Phase != corev1.ClaimBound {
			return notYet(fmt.Sprintf("its claim %s has no volume: it needs a StorageClass that is the default, or a PersistentVolume for it", name)), nil
		}
	}
	return "", nil
}
