//go:build cluster

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// lend lets functions of another namespace use Redis, and returns the address of
// one of its databases.
func (i *installation) lend(t *testing.T, namespace string, database int) string {
	t.Helper()
	port, policies := intstr.FromInt(redisPort), i.Typed.NetworkingV1().NetworkPolicies(i.namespace)
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "to-" + namespace}}
	policy.Spec.PodSelector.MatchLabels = map[string]string{nameLabel: "redis"}
	policy.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		From: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "function"}},
		}},
	}}
	_, err := policies.Create(t.Context(), policy, metav1.CreateOptions{})
	check(t, err)
	t.Cleanup(func() { check(t, policies.Delete(context.Background(), policy.Name, metav1.DeleteOptions{})) })
	secret, err := i.Typed.CoreV1().Secrets(i.namespace).Get(t.Context(), "redis", metav1.GetOptions{})
	check(t, err)
	return fmt.Sprintf("%s/%d", secret.Data["url"], database)
}
