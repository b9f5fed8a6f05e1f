package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// fieldManager is who owns the fields that we apply. Each instance is one of
// its own, so that two of them that use the same name can't share an object
// without a conflict.
func fieldManager(identity ctf.Identity) string { return "mayfly-" + string(identity) }

// get returns a live object.
func (c *Cluster) get(ctx context.Context, k kind, name objectName) (live *unstructured.Unstructured, err error) {
	err = c.try(ctx, func(ctx context.Context) error {
		live, err = c.at(k, name.namespace).Get(ctx, name.name, metav1.GetOptions{})
		return err
	})
	return live, err
}

// apply sends an object by server-side apply. With a live one it changes that
// very object, whoever changed it before; without, it takes no field from
// anybody.
func (c *Cluster) apply(
	ctx context.Context, k kind, object, live *unstructured.Unstructured, identity ctf.Identity, dry bool,
) (result *unstructured.Unstructured, err error) {
	if live != nil {
		object = object.DeepCopy()
		object.SetUID(live.GetUID())
	}
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", describe(object), err)
	}
	force := live != nil
	options := metav1.PatchOptions{FieldManager: fieldManager(identity), Force: &force}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	err = c.try(ctx, func(ctx context.Context) error {
		result, err = c.at(k, object.GetNamespace()).Patch(ctx, object.GetName(), types.ApplyPatchType, body, options)
		return err
	})
	return result, err
}

// looks is how often a change is made in vain before it fails: for about as long
// as an API server may be away.
const looks = 30

// anew makes a change, which begins with a look at what is there. A conflict says
// that this is another thing by now, or nothing at all: then it looks anew.
func anew(ctx context.Context, change func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := change()
		if !apierrors.IsConflict(err) || n == looks {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// put brings an object to be as desired. One that is about to go is waited for,
// one that may not be changed makes way, one of somebody else is left alone.
func (p *Provider) put(
	ctx context.Context, k kind, object *unstructured.Unstructured, identity ctf.Identity, ignored []string,
) (result *unstructured.Unstructured, err error) {
	err = anew(ctx, func() error {
		result, err = p.putOnce(ctx, k, object, identity, ignored)
		return err
	})
	return result, err
}

func (p *Provider) putOnce(
	ctx context.Context, k kind, object *unstructured.Unstructured, identity ctf.Identity, ignored []string,
) (*unstructured.Unstructured, error) {
	name := objectName{object.GetNamespace(), object.GetName()}
	live, err := p.standing(ctx, k, name)
	if err != nil {
		return nil, err
	}
	if live != nil && !p.owns(live, identity) {
		return nil, &foreignError{describe(object)}
	}
	result, err := p.cluster.apply(ctx, k, leaveIgnored(object, live, ignored), live, identity, false)
	if live != nil && isImmutable(err) {
		if err := p.remove(ctx, k, name, live.GetUID(), p.deleteTimeout); err != nil {
			return nil, err
		}
		result, err = p.cluster.apply(ctx, k, object, nil, identity, false)
	}
	if err != nil {
		return nil, rejected(object, err)
	}
	if result.GetDeletionTimestamp() != nil {
		return nil, apierrors.NewConflict(k.resource().GroupResource(), name.name, errors.New("it was deleted meanwhile"))
	}
	return result, nil
}

// standing returns the live object, nil if there is none. It waits for one that
// is about to go.
func (p *Provider) standing(ctx context.Context, k kind, name objectName) (*unstructured.Unstructured, error) {
	live, err := p.cluster.get(ctx, k, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for %s %s: %w", k.Kind, name.id(), err)
	case live.GetDeletionTimestamp() == nil:
		return live, nil
	}
	return nil, p.waitGone(ctx, k, live, p.deleteTimeout)
}

// find returns the live object, nil if it is not there or not the instance's.
func (p *Provider) find(ctx context.Context, k kind, name objectName, identity ctf.Identity) (*unstructured.Unstructured, error) {
	live, err := p.cluster.get(ctx, k, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", k.Kind, name.id(), err)
	}
	if !p.owns(live, identity) {
		return nil, nil
	}
	return live, nil
}

// A foreignError says that a name is taken.
type foreignError struct{ object string }

func (e *foreignError) Error() string {
	return e.object + " exists and does not belong to this instance: choose another name, or leave the name out"
}

// isImmutable tells whether an update was refused because the object would have
// to be made anew.
func isImmutable(err error) bool {
	if !apierrors.IsInvalid(err) {
		return false
	}
	message := err.Error()
	for _, phrase := range []string{
		"immutable", "orbidden: updates to", "orbidden: pod updates", "may not be changed", "may not change once set",
		"may not be updated", "may not be specified when `type` is", "cannot be changed", "cannot be updated", "may not be unset",
	} {
		if strings.Contains(message, phrase) {
			return true
		}
	}
	return false
}

// rejected says in the API server's words why it did not take an object.
func rejected(object *unstructured.Unstructured, err error) error {
	if status, ok := err.(apierrors.APIStatus); ok {
		message := status.Status().Message
		return &rejectedError{describe(object) + " was refused: " + message, err}
	}
	return fmt.Errorf("apply %s: %w", describe(object), err)
}

// A rejectedError says that the API server does not take an object.
type rejectedError struct {
	message string
	err     error
}

func (e *rejectedError) Error() string { return e.message }
func (e *rejectedError) Unwrap() error { return e.err }

// describe names an object to people.
func describe(object *unstructured.Unstructured) string {
	return object.GetKind() + " " + string(objectName{object.GetNamespace(), object.GetName()}.id())
}
