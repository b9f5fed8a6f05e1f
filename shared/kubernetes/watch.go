package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// retryWatch is how long a watch that ended is left alone.
const retryWatch = 50 * time.Millisecond

var errTooLong = errors.New("it took too long")

// follow shows each state of an object to see, from the given one on, until
// see is done. An object that is gone is nil.
func (c *Cluster) follow(
	ctx context.Context, k kind, from *unstructured.Unstructured, see func(*unstructured.Unstructured) (bool, error),
) error {
	name := objectName{from.GetNamespace(), from.GetName()}
	live := from
	for {
		if done, err := see(live); done || err != nil {
			return err
		}
		options := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name.name).String()}
		if live != nil {
			options.ResourceVersion = live.GetResourceVersion()
		}
		done, err := c.watch(ctx, k, name.namespace, options, see)
		if done || err != nil {
			return err
		}
		// The watch ended, as watches do.
		live, err = c.get(ctx, k, name)
		if apierrors.IsNotFound(err) {
			live = nil
		} else if err != nil {
			return err
		}
	}
}

// watch shows changes to see until it is done or the watch ends by itself.
func (c *Cluster) watch(
	ctx context.Context, k kind, namespace string, options metav1.ListOptions,
	see func(*unstructured.Unstructured) (bool, error),
) (bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var w watch.Interface
	err := c.open(ctx, func(ctx context.Context) (err error) {
		w, err = c.at(k, namespace).Watch(ctx, options)
		return err
	})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", k.Kind, err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case event, ok := <-w.ResultChan():
			if !ok || event.Type == watch.Error {
				return false, sleep(ctx, retryWatch)
			}
			live, isObject := event.Object.(*unstructured.Unstructured)
			if !isObject || event.Type == watch.Bookmark {
				continue
			}
			if event.Type == watch.Deleted {
				live = nil
			}
			if done, err := see(live); done || err != nil {
				return done, err
			}
		}
	}
}

// open is try for a call whose context must live on.
func (c *Cluster) open(ctx context.Context, call func(context.Context) error) error {
	return c.try(context.WithoutCancel(ctx), func(context.Context) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return call(ctx)
	})
}

// waitGone waits until that very object is gone.
func (p *Provider) waitGone(ctx context.Context, k kind, live *unstructured.Unstructured, limit time.Duration) error {
	last := live
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	err := p.cluster.follow(ctx, k, live, func(now *unstructured.Unstructured) (bool, error) {
		if now == nil || now.GetUID() != live.GetUID() {
			return true, nil
		}
		last = now
		return false, nil
	})
	if errors.Is(err, errTooLong) {
		detail := "nothing says why"
		if f := last.GetFinalizers(); len(f) > 0 {
			detail = "it waits for " + strings.Join(f, ", ")
		}
		return &FailureError{Object: describe(live), Reason: "it is not gone after " + limit.String(), Detail: detail}
	}
	return err
}

// remove deletes that very object and returns when it is gone. One that is not
// there, or is another by now, is gone.
func (p *Provider) remove(ctx context.Context, k kind, name objectName, uid types.UID, limit time.Duration) error {
	policy := metav1.DeletePropagationBackground
	if k.custom || k.hasPods && k.Kind != "Pod" || k.name() == "ConfigMap" && strings.HasPrefix(name.name, "mayfly-") {
		policy = metav1.DeletePropagationForeground // gone means: its pods too
	}
	var live *unstructured.Unstructured // nil is that it is gone
	err := anew(ctx, func() error {
		live = nil
		err := p.cluster.try(ctx, func(ctx context.Context) error {
			return p.cluster.at(k, name.namespace).Delete(ctx, name.name, metav1.DeleteOptions{
				PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid},
			})
		})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil && !apierrors.IsConflict(err):
			return err
		}
		now, looking := p.cluster.get(ctx, k, name)
		if apierrors.IsNotFound(looking) || looking == nil && now.GetUID() != uid {
			return nil
		}
		live = now
		return cmp.Or(looking, err)
	})
	if apierrors.IsConflict(err) {
		return &FailureError{Object: k.Kind + " " + string(name.id()), Reason: "it can't be deleted", Detail: err.Error()}
	}
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", k.Kind, name.id(), err)
	}
	if live == nil {
		return nil
	}
	return p.waitGone(ctx, k, live, limit)
}
