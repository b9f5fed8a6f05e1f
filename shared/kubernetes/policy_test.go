package kubernetes_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

const someone = "0123456789abcdef"

// offline returns a provider whose cluster does not answer: whatever it says,
// it says without asking.
func offline(t testing.TB, policy *kubernetes.Policy) *kubernetes.Provider {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, namespace: games}}],
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster, err := kubernetes.Connect(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := kubernetes.NewProvider(kubernetes.Options{Cluster: cluster, Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func check(t *testing.T, p *kubernetes.Provider, token, name, text string) (resource.PropertyMap, error) {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	r, err := p.Check(t.Context(), plugin.CheckRequest{
		URN:  resource.URN("urn:pulumi:" + someone + "::project::kubernetes:" + token + "::" + name),
		News: resource.NewPropertyMapFromMap(fields),
	})
	return r.Properties, err
}

// podWith is a Deployment whose pods have these fields.
func podWith(spec string) string {
	return "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {" + spec + "}}}"
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	const deployment, containers = "apps/v1:Deployment", "containers: [{name: c, image: i}]"
	const ingress = "networking.k8s.io/v1:Ingress"
	cases := []struct {
		name, token, object string
		policy              string // in YAML
		rule, field         string // empty: it is allowed
	}{
		{"safe pod", deployment, podWith(containers), "", "", ""},
		{"cron job, host network", "batch/v1:CronJob",
			"spec: {jobTemplate: {spec: {template: {spec: {hostNetwork: true, " + containers + "}}}}}", "",
			"podSecurity baseline", "spec.jobTemplate.spec.template.spec.hostNetwork, hostPID, hostIPC"},
		{"bare pod, host path", "core/v1:Pod", "spec: {volumes: [{name: v, hostPath: {path: /}}], " + containers + "}", "",
			"podSecurity baseline", "spec.volumes[].hostPath"},
		{"privileged", deployment, podWith("containers: [{name: c, image: i, securityContext: {privileged: true}}]"), "",
			"podSecurity baseline", "spec.template.spec.containers[].securityContext.privileged"},
		{"privileged, opened", deployment, podWith("containers: [{name: c, image: i, securityContext: {privileged: true}}]"),
			"podSecurity: privileged", "", ""},
		{"baseline is not restricted", deployment, podWith(containers), "podSecurity: restricted",
			"podSecurity restricted", "spec.template.spec.containers[].securityContext.allowPrivilegeEscalation"},
		{"an account", deployment, podWith("serviceAccountName: admin, " + containers), "",
			"serviceAccounts", "spec.template.spec.serviceAccountName"},
		{"an account, opened", deployment, podWith("serviceAccountName: admin, " + containers), "serviceAccounts: [admin]", "", ""},
		{"an account without a token", deployment,
			podWith("serviceAccountName: admin, automountServiceAccountToken: false, " + containers), "", "", ""},
		{"a token", "core/v1:Secret", "type: kubernetes.io/service-account-token", "", "serviceAccounts", "type"},
		{"another namespace", "core/v1:ConfigMap", "metadata: {namespace: kube-system}", "", "namespaces", "metadata.namespace"},
		{"another namespace, opened", "core/v1:ConfigMap", "metadata: {namespace: games-2}", `namespaces: ["games-*"]`, "", ""},
		{"its own namespace", "core/v1:ConfigMap", "metadata: {namespace: " + someone + "}", "", "", ""},
		{"making its own", "core/v1:Namespace", "metadata: {name: " + someone + "}", "", "", ""},
		{"making another", "core/v1:Namespace", "metadata: {name: games}", "", "namespaces", "metadata.name"},
		{"the owner", "core/v1:ConfigMap", "metadata: {name: mayfly-" + someone + "}", "", "names", "metadata.name"},
		{"a role", "rbac.authorization.k8s.io/v1:ClusterRole", "{}", "", "kinds", "kind"},
		{"a role, opened", "rbac.authorization.k8s.io/v1:Role", "{}", "kinds: [rbac.authorization.k8s.io/*]", "", ""},
		{"external addresses", "core/v1:Service", "spec: {externalIPs: [10.0.0.1]}", "", "allowExternalIPs", "spec.externalIPs"},
		{"external addresses, opened", "core/v1:Service", "spec: {externalIPs: [10.0.0.1]}", "allowExternalIPs: true", "", ""},
		{"external names", "core/v1:Service", "spec: {type: ExternalName, externalName: redis.svc}", "", "allowExternalNames", "spec.externalName"},
		{"external names, opened", "core/v1:Service", "spec: {type: ExternalName, externalName: x.org}", "allowExternalNames: true", "", ""},
		{"a disk of the node", "core/v1:PersistentVolume", "spec: {hostPath: {path: /}}", "kinds: ['*']", "podSecurity baseline", "spec.hostPath"},
		{"a disk of the node, opened", "core/v1:PersistentVolume", "spec: {local: {path: /}}",
			"kinds: ['*']\npodSecurity: privileged", "", ""},
		{"finalizers", "core/v1:ConfigMap", "metadata: {finalizers: [a/b]}", "", "finalizers", "metadata.finalizers"},
		{"the older name of an account", deployment, podWith("serviceAccount: admin, " + containers), "",
			"serviceAccounts", "spec.template.spec.serviceAccount"},
		{"a token by another way", deployment, podWith("serviceAccountName: admin, automountServiceAccountToken: false, " +
			"volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}], " + containers), "",
			"serviceAccounts", "spec.template.spec.volumes[].projected.sources[].serviceAccountToken"},
		{"before all others", deployment, podWith("priorityClassName: system-node-critical, " + containers), "",
			"podSecurity baseline", "spec.template.spec.priorityClassName"},
		{"a host", ingress, "spec: {rules: [{host: a.example}]}", "", "", ""},
		{"all hosts", ingress, "spec: {rules: [{http: {paths: []}}]}", "", "ingressHosts", "spec.rules[].host"},
		{"a wildcard", ingress, "spec: {rules: [{host: '*.example'}]}", "", "ingressHosts", "spec.rules[].host"},
		{"the rest", ingress, "spec: {defaultBackend: {service: {name: x}}}", "", "ingressHosts", "spec.defaultBackend"},
		{"all hosts, opened", ingress, "spec: {rules: [{http: {paths: []}}]}", "ingressHosts: ['*']", "", ""},
		{"another host", ingress, "spec: {rules: [{host: api.example}]}", "ingressHosts: ['*.games.example']", "ingressHosts", "spec.rules[].host"},
		{"no pod at all", deployment, "spec: {template: 3}", "", "podSecurity", "spec.template"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			policy, err := kubernetes.ParsePolicy([]byte(c.policy))
			if err != nil {
				t.Fatal(err)
			}
			_, err = check(t, offline(t, policy), c.token, "it", c.object)
			refusal, isRefusal := errors.AsType[*kubernetes.RefusalError](err)
			switch {
			case c.rule == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.rule != "" && (!isRefusal || refusal.Rule != c.rule || refusal.Field != c.field):
				t.Errorf("want %s at %s, got %v", c.rule, c.field, err)
			}
		})
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"podSecurity: none": "podSecurity", "kind: [Pod]": `unknown field "kind"`, "kinds: ['[']": "no pattern", "kinds: 3": "kinds",
	} {
		if _, err := kubernetes.ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := kubernetes.LoadPolicy(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	p := offline(t, nil)
	urn := resource.URN("urn:pulumi:" + someone + "::project::pulumi:providers:kubernetes::target")
	_, err := p.CheckConfig(t.Context(), plugin.CheckConfigRequest{URN: urn, News: resource.PropertyMap{"namespace": resource.NewProperty("x")}})
	if err != nil {
		t.Error(err)
	}
	_, err = p.CheckConfig(t.Context(), plugin.CheckConfigRequest{URN: urn, News: resource.PropertyMap{"kubeconfig": resource.NewProperty("x")}})
	if _, isRefusal := errors.AsType[*kubernetes.RefusalError](err); !isRefusal {
		t.Errorf("another cluster: %v", err)
	}
}
