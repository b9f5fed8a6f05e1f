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

// Sweep deletes the ConfigMaps that own the objects of an instance, and with
// them all objects, late ones included, and what the instance made outside of
// namespaces. It returns when they are gone, and may be called again, and when
// nothing is left.
func (p *Provider) Sweep(ctx context.Context, identity ctf.Identity) error {
	ctx, end := p.begin(ctx)
	defer end()
	left, err := p.leftovers(ctx, identity)
	if err != nil {
		return fmt.Errorf("sweep %s: %w", identity, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range left {
		group.Go(func() error {
			return p.remove(ctx, l.kind, objectName{l.object.GetNamespace(), l.object.GetName()}, l.object.GetUID())
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("sweep %s: %w", identity, err)
	}
	return nil
}

// A leftover is an object that a sweep deletes.
type leftover struct {
	kind   kind
	object unstructured.Unstructured
}

func (p *Provider) leftovers(ctx context.Context, identity ctf.Identity) ([]leftover, error) {
	if identity == "" {
		return nil, errors.New("no identity given")
	}
	selector := LabelIdentity + "=" + labelValue(string(identity))
	k := p.cluster.configMaps()
	owners, err := p.ownerMaps(ctx, k, selector, identity)
	if err != nil {
		return nil, err
	}
	var left []leftover
	for _, o := range owners {
		if o.GetName() == ownerName(identity, "").name {
			left = append(left, leftover{k, o})
		}
	}
	for _, k := range p.clusterKinds() {
		found, err := p.cluster.list(ctx, k, "", selector)
		if apierrors.IsForbidden(err) {
			continue // then we can't have made any
		}
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			left = append(left, leftover{k, o})
		}
	}
	return left, nil
}

// ownerMaps lists the ConfigMaps of an instance in all namespaces or, if that
// is not allowed to us, in those that the policy names.
func (p *Provider) ownerMaps(ctx context.Context, k kind, selector string, identity ctf.Identity) ([]unstructured.Unstructured, error) {
	all, err := p.cluster.list(ctx, k, "", selector)
	if !apierrors.IsForbidden(err) {
		return all, err
	}
	for _, namespace := range p.policy.places(identity) {
		found, err := p.cluster.list(ctx, k, namespace, selector)
		if apierrors.IsForbidden(err) && namespace != p.policy.target {
			continue // then nothing of ours can be there
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
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

// list returns the objects of a kind that have a label, in one namespace or in
// all.
func (c *Cluster) list(ctx context.Context, k kind, namespace, selector string) ([]unstructured.Unstructured, error) {
	var items []unstructured.Unstructured
	err := c.try(ctx, func(ctx context.Context) error {
		found, err := c.at(k, namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err == nil {
			items = found.Items
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.plural, err)
	}
	return items, nil
}
