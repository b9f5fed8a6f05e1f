//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// nodeDirectory is where on a node the volume is, mountedAt where the keeper
	// sees it.
	nodeDirectory, mountedAt = "/var/tmp", "/node"
	hostname                 = "kubernetes.io/hostname"
)

// A volume is a directory on a node, made for one claim of an installation: the
// cluster may have nobody who provides volumes.
type volume struct{ name, node string }

// newVolume makes a directory on a node, and removes it after what is cleaned
// up before.
func newVolume(t testing.TB) volume {
	t.Helper()
	c := clustertest.New(t)
	v := volume{name: c.Namespace()}
	image := clustertest.Image(t, "keeper", map[string][]byte{"program": clustertest.Program(t, filepath.Join("testdata", "keeper"))})
	root := int64(0)
	container := func(what string) corev1.Container {
		return corev1.Container{
			Name: what, Image: image, Args: []string{what, path.Join(mountedAt, v.name)},
			VolumeMounts:    []corev1.VolumeMount{{Name: "node", MountPath: mountedAt}},
			SecurityContext: &corev1.SecurityContext{RunAsUser: &root},
		}
	}
	pods := c.Typed.CoreV1().Pods(v.name)
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "keeper"},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{container("make")},
			Containers:     []corev1.Container{container("keep")},
			Volumes: []corev1.Volume{{Name: "node", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: nodeDirectory},
			}}},
		},
	}, metav1.CreateOptions{})
	check(t, err)
	clustertest.Eventually(t, 2*time.Minute, "the directory is made", func() error {
		keeper, err := pods.Get(t.Context(), "keeper", metav1.GetOptions{})
		check(t, err)
		v.node = keeper.Spec.NodeName
		if keeper.Status.Phase != corev1.PodRunning {
			return errors.New(string(keeper.Status.Phase))
		}
		return nil
	})
	return v
}

// keepFor has the directory be the volume of the installation's Redis.
func (v volume) keepFor(t testing.TB, i *installation) {
	t.Helper()
	v.claimed(t, i, "data-redis-0")
}

// claimed has the directory be what a claim of the installation gets.
func (v volume) claimed(t testing.TB, i *installation, claim string) {
	t.Helper()
	node, err := i.Typed.CoreV1().Nodes().Get(t.Context(), v.node, metav1.GetOptions{})
	check(t, err)
	volumes := i.Typed.CoreV1().PersistentVolumes()
	_, err = volumes.Create(t.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: v.name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Gi")}, // nobody measures it
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			ClaimRef:    &corev1.ObjectReference{Namespace: i.namespace, Name: claim},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: path.Join(nodeDirectory, v.name)},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: hostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node.Labels[hostname]},
				}},
			}}}},
		},
	}, metav1.CreateOptions{})
	check(t, err)
	t.Cleanup(func() { // it goes when its claim is gone
		if err := volumes.Delete(context.Background(), v.name, metav1.DeleteOptions{}); err != nil {
			t.Error(fmt.Errorf("delete the volume: %w", err))
		}
	})
}
