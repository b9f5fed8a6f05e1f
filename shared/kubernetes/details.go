package kubernetes

import (
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/pod-security-admission/api"
)

// allowDetails looks at what single kinds would open.
func (p *Policy) allowDetails(k kind, object *unstructured.Unstructured, refuse refusing) error {
	switch k.name() {
	case "Secret":
		if kind, _, _ := unstructured.NestedString(object.Object, "type"); kind == "kubernetes.io/service-account-token" {
			return refuse("serviceAccounts", "type", "a scenario can't ask for the token of a service account")
		}
	case "Service":
		return p.allowService(object, refuse)
	case "networking.k8s.io/Ingress":
		return p.allowIngress(object, refuse)
	case "PersistentVolume":
		for _, source := range []string{"hostPath", "local"} {
			_, found, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", source)
			if found && p.PodSecurity != string(api.LevelPrivileged) {
				return refuse("podSecurity "+p.PodSecurity, "spec."+source, "pods would reach the disk of a node through it")
			}
		}
	}
	return nil
}

func (p *Policy) allowService(object *unstructured.Unstructured, refuse refusing) error {
	ips, found, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "externalIPs")
	if list, ok := ips.([]any); found && (!ok || len(list) > 0) && !p.AllowExternalIPs {
		return refuse("allowExternalIPs", "spec.externalIPs", "it would take over addresses of the network")
	}
	kind, _, _ := unstructured.NestedString(object.Object, "spec", "type")
	_, named, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "externalName")
	if (kind == "ExternalName" || named) && !p.AllowExternalNames {
		return refuse("allowExternalNames", "spec.externalName", "it would stand for something outside of the instance")
	}
	return nil
}

// allowIngress looks at the hosts: an Ingress without any takes the requests of
// everybody else.
func (p *Policy) allowIngress(object *unstructured.Unstructured, refuse refusing) error {
	if _, found, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "defaultBackend"); found && !p.allowsHost("") {
		return refuse("ingressHosts", "spec.defaultBackend", "it would serve all hosts that nobody else does")
	}
	rules, _, err := unstructured.NestedSlice(object.Object, "spec", "rules")
	if err != nil {
		return refuse("ingressHosts", "spec.rules", "it is not a list of objects")
	}
	for _, r := range rules {
		rule, ok := r.(map[string]any)
		host, isText := rule["host"].(string)
		if !ok || rule["host"] != nil && !isText {
			return refuse("ingressHosts", "spec.rules[].host", "it is not a text")
		}
		switch {
		case p.allowsHost(host):
		case host == "":
			return refuse("ingressHosts", "spec.rules[].host", "it would serve all hosts, name one")
		default:
			return refuse("ingressHosts", "spec.rules[].host", host+" is not among the hosts that a scenario may serve")
		}
	}
	return nil
}

func (p *Policy) allowsHost(host string) bool {
	return slices.ContainsFunc(p.IngressHosts, func(pattern string) bool {
		if host == "" || strings.Contains(host, "*") {
			return pattern == "*"
		}
		ok, err := path.Match(pattern, host)
		return ok && err == nil
	})
}
