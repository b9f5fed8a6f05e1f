package kubernetes

import (
	"context"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A kind of objects: how the API server names them, and what of them matters.
type kind struct {
	schema.GroupVersionKind
	plural     string
	namespaced bool
	// template is the path to what pods are made from; a Pod's is empty.
	template []string
	// hasPods tells that pods are made of it, or that it is one.
	hasPods bool
	// custom tells that it is not built in: what is made of it is not known.
	custom bool
}

func (k kind) resource() schema.GroupVersionResource {
	return k.GroupVersion().WithResource(k.plural)
}

// name is how policies and people write the kind.
func (k kind) name() string {
	if k.Group == "" {
		return k.Kind
	}
	return k.Group + "/" + k.Kind
}

// A groupKind finds a kind in whichever version.
type groupKind struct{ group, kind string }

// builtinKinds are the kinds that need no question to the cluster.
func builtinKinds() map[groupKind]kind {
	kinds := map[groupKind]kind{}
	add := func(group string, namespaced bool, names ...string) {
		for _, name := range names {
			singular, plural, found := strings.Cut(name, ":")
			if !found {
				plural = strings.ToLower(singular) + "s"
			}
			k := kind{plural: plural, namespaced: namespaced}
			k.Group, k.Kind = group, singular
			kinds[groupKind{group, singular}] = k
		}
	}
	add("", true, "ConfigMap", "Endpoints:endpoints", "LimitRange", "PersistentVolumeClaim", "Pod",
		"PodTemplate", "ReplicationController", "ResourceQuota", "Secret", "Service", "ServiceAccount")
	add("", false, "Namespace", "PersistentVolume", "Node")
	add("apps", true, "ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
	add("batch", true, "CronJob", "Job")
	add("autoscaling", true, "HorizontalPodAutoscaler")
	add("policy", true, "PodDisruptionBudget")
	add("networking.k8s.io", true, "Ingress:ingresses", "NetworkPolicy:networkpolicies")
	add("networking.k8s.io", false, "IngressClass:ingressclasses")
	add("discovery.k8s.io", true, "EndpointSlice")
	add("coordination.k8s.io", true, "Lease")
	add("rbac.authorization.k8s.io", true, "Role", "RoleBinding")
	add("rbac.authorization.k8s.io", false, "ClusterRole", "ClusterRoleBinding")
	add("scheduling.k8s.io", false, "PriorityClass:priorityclasses")
	add("storage.k8s.io", false, "StorageClass:storageclasses", "VolumeAttachment")
	add("apiextensions.k8s.io", false, "CustomResourceDefinition")
	add("admissionregistration.k8s.io", false, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")

	withPods := func(group, name string, template ...string) {
		k := kinds[groupKind{group, name}]
		k.hasPods, k.template = true, template
		kinds[groupKind{group, name}] = k
	}
	withPods("", "Pod")
	withPods("", "PodTemplate", "template")
	withPods("", "ReplicationController", "spec", "template")
	for _, name := range []string{"DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"} {
		withPods("apps", name, "spec", "template")
	}
	withPods("batch", "Job", "spec", "template")
	withPods("batch", "CronJob", "spec", "jobTemplate", "spec", "template")
	return kinds
}

// kindOf returns the kind that a resource's token names. Kinds that are not
// built in are asked of the cluster.
func (c *Cluster) kindOf(ctx context.Context, token tokens.Type) (kind, error) {
	gvk, err := parseToken(token)
	if err != nil {
		return kind{}, err
	}
	if k, ok := c.builtin[groupKind{gvk.Group, gvk.Kind}]; ok {
		k.GroupVersionKind = gvk
		return k, nil
	}
	for _, suffix := range []string{"List", "Patch"} {
		if base, ok := strings.CutSuffix(gvk.Kind, suffix); ok {
			if _, ok := c.builtin[groupKind{gvk.Group, base}]; ok {
				return kind{}, fmt.Errorf("%s is not supported: write each %s by itself", gvk.Kind, base)
			}
		}
	}
	return c.lookUp(ctx, gvk)
}

// parseToken reads a token of the Kubernetes SDK, as kubernetes:apps/v1:Deployment.
func parseToken(token tokens.Type) (schema.GroupVersionKind, error) {
	parts := strings.Split(string(token), ":")
	if len(parts) == 3 && parts[0] == Package && parts[2] != "" {
		group, version, ok := strings.Cut(parts[1], "/")
		if !ok { // a custom resource of the core group
			group, version = "", group
		}
		if group == "core" {
			group = ""
		}
		if isVersion(version) {
			return schema.GroupVersionKind{Group: group, Version: version, Kind: parts[2]}, nil
		}
	}
	return schema.GroupVersionKind{}, fmt.Errorf("%s is not supported: it is no kind of Kubernetes object", token)
}

// isVersion tells v1 and v2beta1 from what else a token may hold.
func isVersion(s string) bool {
	return len(s) > 1 && s[0] == 'v' && s[1] >= '0' && s[1] <= '9' && !strings.Contains(s, "/")
}
