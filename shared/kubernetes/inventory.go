package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Instances yields every instance of the installation that has anything on the
// cluster, each once, the oldest first: it asks for the ConfigMaps that own the
// objects of instances, and for objects outside of namespaces. An error ends
// the sequence. Where we must not list all namespaces, an instance that had
// one of its own is found by that Namespace.
func (p *Provider) Instances(ctx context.Context) iter.Seq2[ctf.Holding, error] {
	return func(yield func(ctf.Holding, error) bool) {
		ctx, end := p.begin(ctx)
		defer end()
		found := map[ctf.Identity]ctf.Holding{}
		err := p.roots(ctx, "", func(_ kind, o *unstructured.Unstructured) { note(found, o) })
		if err != nil {
			yield(ctf.Holding{}, fmt.Errorf("list instances: %w", err))
			return
		}
		oldest := slices.SortedFunc(maps.Values(found), func(a, b ctf.Holding) int {
			return cmp.Or(a.Since.Compare(b.Since), strings.Compare(string(a.Key.Identity), string(b.Key.Identity)))
		})
		for _, holding := range oldest {
			if !yield(holding, nil) {
				return
			}
		}
	}
}

// Shows tells that Instances finds the instance of an object in the namespace of
// instances. We may not be let see others, and objects outside of namespaces.
func (p *Provider) Shows(r ctf.Resource) bool {
	namespace, _, within := strings.Cut(r.ID, "/")
	return within && namespace == p.policy.target && strings.HasPrefix(r.Type, Package+":")
}

// note adds what an object tells of its instance.
func note(found map[ctf.Identity]ctf.Holding, o *unstructured.Unstructured) {
	identity := ctf.Identity(o.GetLabels()[LabelIdentity])
	h, known := found[identity]
	h.Key.Identity = identity
	ids := o.GetAnnotations()
	if id := ctf.ChallengeID(ids[LabelChallenge]); id != "" && h.Key.Challenge.ID == "" {
		h.Key.Challenge = ctf.ChallengeKey{Tenant: ctf.Tenant(ids[LabelTenant]), ID: id}
	}
	if at := o.GetCreationTimestamp().Time; !known || at.Before(h.Since) {
		h.Since = at
	}
	found[identity] = h
}
