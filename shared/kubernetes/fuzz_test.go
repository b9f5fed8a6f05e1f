package kubernetes_test

import (
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// FuzzCheck gives the provider any object. Whatever the object is, it is refused or
// taken, and what is taken once is taken again.
func FuzzCheck(f *testing.F) {
	kinds := []string{
		"core/v1:Pod", "core/v1:Service", "core/v1:Secret", "core/v1:Namespace", "apps/v1:Deployment", "batch/v1:CronJob",
		"networking.k8s.io/v1:Ingress", "networking.k8s.io/v1:NetworkPolicy", "policy/v1:PodDisruptionBudget",
	}
	f.Add(byte(0), []byte("spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}], hostNetwork: true}"))
	f.Add(byte(1), []byte("spec: {selector: {a: b}, externalIPs: [1.2.3.4], type: ExternalName}"))
	f.Add(byte(4), []byte("spec: {template: {spec: {volumes: [{hostPath: {path: /}}]}}}"))
	f.Add(byte(6), []byte("spec: {rules: [{host: '*'}], tls: 7}"))
	f.Add(byte(7), []byte("spec: {egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [x]}}]}]}"))
	f.Add(byte(3), []byte("metadata: {finalizers: [a], namespace: '', labels: {a: 7}}"))
	p := offline(f, kubernetes.DefaultPolicy())
	f.Fuzz(func(t *testing.T, kind byte, text []byte) {
		var fields map[string]any
		if yaml.Unmarshal(text, &fields) != nil {
			return
		}
		inputs := resource.NewPropertyMapFromMap(fields)
		urn := resource.URN("urn:pulumi:" + someone + "::project::kubernetes:" + kinds[int(kind)%len(kinds)] + "::name")
		first, err := p.Check(t.Context(), plugin.CheckRequest{URN: urn, News: inputs})
		if err != nil || len(first.Failures) > 0 {
			return
		}
		again, err := p.Check(t.Context(), plugin.CheckRequest{URN: urn, News: first.Properties})
		if err != nil || len(again.Failures) > 0 {
			t.Errorf("what was made of it is refused: %v %v", err, again.Failures)
		}
	})
}
