package install

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	networkingv1alpha1 "knative.dev/networking/pkg/apis/networking/v1alpha1"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingv1beta1 "knative.dev/serving/pkg/apis/serving/v1beta1"
)

const gateway = "gateway"

// domain returns what gives the gateway a host of the operator's: the claim by
// which Knative leaves the host to the namespace, and the mapping.
func (o Options) domain() ([]*unstructured.Unstructured, error) {
	if o.Domain == "" {
		return nil, nil
	}
	claim := &networkingv1alpha1.ClusterDomainClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1alpha1.SchemeGroupVersion.String(), Kind: "ClusterDomainClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: o.Domain, Labels: ours()},
		Spec:       networkingv1alpha1.ClusterDomainClaimSpec{Namespace: o.namespace()},
	}
	mapping := &servingv1beta1.DomainMapping{
		TypeMeta:   metav1.TypeMeta{APIVersion: servingv1beta1.SchemeGroupVersion.String(), Kind: "DomainMapping"},
		ObjectMeta: metav1.ObjectMeta{Name: o.Domain, Namespace: o.namespace(), Labels: ours()},
		Spec: servingv1beta1.DomainMappingSpec{Ref: duckv1.KReference{
			APIVersion: servingv1.SchemeGroupVersion.String(), Kind: "Service", Name: gateway,
		}},
	}
	var objects []*unstructured.Unstructured
	for _, typed := range []any{claim, mapping} {
		fields, err := fields(typed)
		if err != nil {
			return nil, fmt.Errorf("map the domain %s: %w", o.Domain, err)
		}
		objects = append(objects, &unstructured.Unstructured{Object: fields})
	}
	return objects, nil
}
