package kubernetes_test

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

func nameOf(t *testing.T, in resource.PropertyMap) string {
	t.Helper()
	return in["metadata"].ObjectValue()["name"].StringValue()
}

func TestNames(t *testing.T) {
	t.Parallel()
	p := offline(t, nil)
	seen := map[string]string{}
	for _, name := range []string{
		"web", "Web", "web!", "web?", "1st", "x1st", "-", "é", "chal:games/web", "a.b", strings.Repeat("x", 80), strings.Repeat("x", 81),
	} {
		in, err := check(t, p, "core/v1:Service", name, "spec: {ports: [{port: 80}]}")
		if err != nil {
			t.Fatal(err)
		}
		got := nameOf(t, in)
		if problems := validation.IsDNS1035Label(got); len(problems) > 0 {
			t.Errorf("%q is named %q: %v", name, got, problems)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("%q and %q are both named %q", name, other, got)
		}
		seen[got] = name
		again, err := check(t, p, "core/v1:Service", name, "spec: {ports: [{port: 80}]}")
		if err != nil || nameOf(t, again) != got {
			t.Errorf("%q is named %q, then %q", name, got, nameOf(t, again))
		}
	}
	if in, err := check(t, p, "core/v1:Service", "web", "{}"); err != nil || nameOf(t, in) != "web-"+someone {
		t.Errorf("web is named %q, %v", nameOf(t, in), err)
	}
	if in, err := check(t, p, "core/v1:Service", "web", "metadata: {name: given}"); err != nil || nameOf(t, in) != "given" {
		t.Errorf("named %q, %v", nameOf(t, in), err)
	}
	if in, err := check(t, p, "core/v1:Service", "web", "metadata: {generateName: gen-}"); err != nil || nameOf(t, in) != "gen-"+someone {
		t.Errorf("named %q, %v", nameOf(t, in), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	p := offline(t, nil)
	if _, err := p.Configure(t.Context(), plugin.ConfigureRequest{
		Inputs: resource.PropertyMap{"namespace": resource.MakeSecret(resource.NewProperty(someone))},
	}); err != nil {
		t.Fatal(err)
	}
	in, err := check(t, p, "apps/v1:Deployment", "web", podWith("containers: [{name: c, image: i}]"))
	if err != nil {
		t.Fatal(err)
	}
	if in["apiVersion"].StringValue() != "apps/v1" || in["kind"].StringValue() != "Deployment" ||
		in["metadata"].ObjectValue()["namespace"].StringValue() != someone {
		t.Errorf("checked %v", in)
	}
	for token, want := range map[string]string{
		"core/v1:PodList": "each Pod by itself", "apps/v1:DeploymentPatch": "each Deployment by itself",
		"kustomize:Directory": "not supported", "yaml:ConfigFile": "not supported",
	} {
		if _, err := check(t, p, token, "x", "{}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", token, err)
		}
	}
	if _, err := check(t, p, "core/v1:Pod", "x", "kind: Secret"); err == nil || !strings.Contains(err.Error(), "the resource's type says Pod") {
		t.Errorf("a Pod that says Secret: %v", err)
	}
	unknown := resource.MakeComputed(resource.NewProperty(""))
	r, err := p.Check(t.Context(), plugin.CheckRequest{
		URN:  resource.URN("urn:pulumi:" + someone + "::project::kubernetes:core/v1:ConfigMap::x"),
		News: resource.PropertyMap{"metadata": unknown, "data": unknown},
	})
	if err != nil || !r.Properties["metadata"].IsComputed() {
		t.Errorf("unknown metadata: %v, %v", r.Properties, err)
	}
}
