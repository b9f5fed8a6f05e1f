package kubernetes

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// owners knows the ConfigMaps that own the objects of an instance, one in each
// namespace: an owner must be in the namespace of what it owns.
type owners struct {
	cluster *Cluster

	mu   sync.Mutex
	uids map[objectName]types.UID
	// stays are the namespaces that were seen not to be about to go.
	stays map[string]bool
}

// ends tells whether a namespace is about to go. Where we may not look, it is
// taken to stay.
func (o *owners) ends(ctx context.Context, namespace string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stays[namespace] {
		return false, nil
	}
	k := o.cluster.builtin[groupKind{"", "Namespace"}]
	k.Version = "v1"
	live, err := o.cluster.get(ctx, k, objectName{name: namespace})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return false, fmt.Errorf("look at the namespace %s: %w", namespace, err)
	}
	if apierrors.IsNotFound(err) || err == nil && live.GetDeletionTimestamp() != nil {
		return true, nil
	}
	if o.stays == nil {
		o.stays = map[string]bool{}
	}
	o.stays[namespace] = true
	return false, nil
}

func ownerName(identity ctf.Identity, namespace string) objectName {
	return objectName{namespace: namespace, name: "mayfly-" + string(identity)}
}

// adopt makes the instance's ConfigMap the owner of an object, and makes the
// ConfigMap if need be. While that is looked at alone, a ConfigMap that is not
// there is not made, and owns nothing.
func (p *Provider) adopt(ctx context.Context, k kind, object *unstructured.Unstructured, identity ctf.Identity, look bool) error {
	if !k.namespaced {
		return nil
	}
	name := ownerName(identity, object.GetNamespace())
	uid, err := p.owner(ctx, name, identity, look)
	if err != nil {
		return fmt.Errorf("make the ConfigMap that owns the instance's objects: %w", err)
	}
	if uid == "" {
		return nil
	}
	yes := true
	object.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: "v1", Kind: "ConfigMap", Name: name.name, UID: uid, BlockOwnerDeletion: &yes,
	}})
	return nil
}

func (p *Provider) owner(ctx context.Context, name objectName, identity ctf.Identity, look bool) (types.UID, error) {
	o := p.owners
	o.mu.Lock() // also while it is made: the others need it too
	defer o.mu.Unlock()
	if uid, ok := o.uids[name]; ok {
		return uid, nil
	}
	k := o.cluster.configMaps()
	var live *unstructured.Unstructured
	var err error
	if look {
		live, err = o.cluster.get(ctx, k, name)
		if apierrors.IsNotFound(err) || err == nil && live.GetDeletionTimestamp() != nil {
			return "", nil
		}
	} else {
		live, err = p.makeOwner(ctx, k, name, identity)
	}
	if err != nil {
		return "", err
	}
	if o.uids == nil {
		o.uids = map[objectName]types.UID{}
	}
	o.uids[name] = live.GetUID()
	return live.GetUID(), nil
}

func (p *Provider) makeOwner(ctx context.Context, k kind, name objectName, identity ctf.Identity) (*unstructured.Unstructured, error) {
	labels, annotations := p.labelsOf(identity)
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetGroupVersionKind(k.GroupVersionKind)
	object.SetNamespace(name.namespace)
	object.SetName(name.name)
	object.SetLabels(merge(labels, map[string]string{labelOwner: "true"}))
	object.SetAnnotations(annotations)
	return p.put(ctx, k, object, identity, nil)
}

func (c *Cluster) configMaps() kind {
	k := c.builtin[groupKind{"", "ConfigMap"}]
	k.Version = "v1"
	return k
}
