//go:build cluster

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// betweenStrikes is after how many answers at most a pod is killed.
const betweenStrikes = 24

// fire kills a pod every few answers, so that a slow machine comes to an end too:
// of the functions that matter most, then of any, and of Redis when half of the
// callers' stories are over.
func (f *stories) fire(ctx context.Context, struck map[string]int) error {
	random := rand.New(rand.NewPCG(f.seed, holders)) //nolint:gosec // It is to come again.
	for {
		for range 1 + random.IntN(betweenStrikes) {
			select {
			case <-ctx.Done():
				return enough(struck)
			case <-f.answered:
			}
		}
		f.mu.Lock()
		half := f.ended >= holders/2
		f.mu.Unlock()
		selector := component
		switch {
		case half && struck["redis"] == 0:
			selector = "app.kubernetes.io/component=redis"
		case struck["create-instance"] == 0:
			selector = nameLabel + "=create-instance"
		case struck["delete-instance"] == 0:
			selector = nameLabel + "=delete-instance"
		}
		switch name, err := f.end(ctx, random, selector, new(int64(0))); {
		case err != nil && ctx.Err() == nil:
			return err
		case name != "":
			struck[name]++
		}
	}
}

// enough returns an error unless what was struck shows something.
func enough(struck map[string]int) error {
	for _, name := range []string{"create-instance", "delete-instance", "redis"} {
		if struck[name] == 0 {
			return fmt.Errorf("%s was never struck: %v", name, struck)
		}
	}
	if len(struck) < 4 {
		return fmt.Errorf("only few were struck: %v", struck)
	}
	return nil
}

// end ends a pod that serves, if there is one, and returns whose it was. It has
// this many seconds to end, or its own grace.
func (i *installation) end(ctx context.Context, random *rand.Rand, selector string, grace *int64) (name string, err error) {
	pods := i.Typed.CoreV1().Pods(i.namespace)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return "", fmt.Errorf("list pods: %w", err)
	}
	serving := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !isServing(p) })
	if len(serving) == 0 {
		return "", nil
	}
	pod := serving[random.IntN(len(serving))]
	err = pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: grace})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("end %s: %w", pod.Name, err)
	}
	return pod.Labels[nameLabel], nil
}

// isServing tells whether a pod takes calls, and is not told to end.
func isServing(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
