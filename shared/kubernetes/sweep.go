package kubernetes

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// pageSize is how many objects are listed at once.
const pageSize = 500

// Sweep deletes the ConfigMaps that own the objects of an instance, and with
// them all objects, late ones included, and what the instance made outside of
// namespaces. It returns when they are gone, and may be called again, and when
// nothing is left.
func (p *Provider) Sweep(ctx context.Context, identity ctf.Identity) error {
	ctx, end := p.begin(ctx)
	defer end()
	if identity == "" {
		return errors.New("sweep: no identity given")
	}
	var group errgroup.Group
	err := p.roots(ctx, identity, func(k kind, o *unstructured.Unstructured) {
		name, uid := objectName{o.GetNamespace(), o.GetName()}, o.GetUID()
		group.Go(func() error { return p.remove(ctx, k, name, uid, p.deleteTimeout) })
	})
	if err := errors.Join(group.Wait(), err); err != nil {
		return fmt.Errorf("sweep %s: %w", identity, err)
	}
	return nil
}

// roots shows what all else of an instance hangs on: the ConfigMaps that own
// its objects, and its objects outside of namespaces. An empty identity is any
// of the installation. The rights to see a kind are those to make it: what
// must not be listed is not there.
func (p *Provider) roots(ctx context.Context, identity ctf.Identity, see func(kind, *unstructured.Unstructured)) error {
	selector := p.selector(identity)
	if err := p.ownerMaps(ctx, selector+","+labelOwner, identity, see); err != nil {
		return err
	}
	for _, k := range p.clusterKinds() {
		err := p.cluster.list(ctx, k, "", selector, see)
		if err != nil && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return nil
}

// ownerMaps shows the owning ConfigMaps in all namespaces or, if we must not
// list them there, in those that the policy names.
func (p *Provider) ownerMaps(ctx context.Context, selector string, identity ctf.Identity, see func(kind, *unstructured.Unstructured)) error {
	owners := func(k kind, o *unstructured.Unstructured) {
		owned := ctf.Identity(o.GetLabels()[LabelIdentity])
		if o.GetName() == ownerName(owned, "").name {
			see(k, o)
		}
	}
	k := p.cluster.configMaps()
	err := p.cluster.list(ctx, k, "", selector, owners)
	if !apierrors.IsForbidden(err) {
		return err
	}
	for _, namespace := range p.policy.places(identity) {
		err := p.cluster.list(ctx, k, namespace, selector, owners)
		if apierrors.IsForbidden(err) && namespace != p.policy.target {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clusterKinds are the kinds outside of namespaces that the policy allows.
func (p *Provider) clusterKinds() []kind {
	var kinds []kind
	for _, k := range p.cluster.builtin {
		if !k.namespaced && k.plural != "nodes" && p.policy.allowsKind(k) {
			k.Version = "v1"
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// list shows the objects of a kind that have labels, in one namespace or, if
// that is empty, in all. It fetches them page by page.
func (c *Cluster) list(ctx context.Context, k kind, namespace, selector string, see func(kind, *unstructured.Unstructured)) error {
	options := metav1.ListOptions{LabelSelector: selector, Limit: pageSize}
	for {
		var page *unstructured.UnstructuredList
		err := c.try(ctx, func(ctx context.Context) (err error) {
			page, err = c.at(k, namespace).List(ctx, options)
			return err
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", k.plural, err)
		}
		for i := range page.Items {
			see(k, &page.Items[i])
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}
