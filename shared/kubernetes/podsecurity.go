package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// podChecks are the Pod Security Standards, in the newest version that is known.
type podChecks struct {
	level     api.Level
	evaluator policy.Evaluator
	err       error
}

func newPodChecks(level string) podChecks {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	return podChecks{level: api.Level(level), evaluator: evaluator, err: err}
}

// allowPods looks at the pods that would be made.
func (p *Policy) allowPods(k kind, object *unstructured.Unstructured, refuse refusing) error {
	template, found, err := unstructured.NestedFieldCopy(object.Object, k.template...)
	fields, ok := template.(map[string]any)
	if err != nil || found && !ok {
		return refuse("podSecurity", strings.Join(k.template, "."), "it is not an object")
	}
	where := strings.Join(append(slices.Clone(k.template), "spec"), ".")
	var pod corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &pod); err != nil {
		return refuse("podSecurity", where, "it can't be read: "+err.Error())
	}
	if p.pods.err != nil {
		return fmt.Errorf("check pod security: %w", p.pods.err)
	}
	level := api.LevelVersion{Level: p.pods.level, Version: api.LatestVersion()}
	metadata := &metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}
	for _, result := range p.pods.evaluator.EvaluatePod(level, metadata, &pod.Spec) {
		if !result.Allowed {
			reason := result.ForbiddenReason
			if result.ForbiddenDetail != "" {
				reason += " (" + result.ForbiddenDetail + ")"
			}
			return refuse("podSecurity "+string(p.pods.level), fieldOf(where, result.ForbiddenReason), reason)
		}
	}
	if class := pod.Spec.PriorityClassName; strings.HasPrefix(class, "system-") && p.pods.level != api.LevelPrivileged {
		return refuse("podSecurity "+string(p.pods.level), where+".priorityClassName", class+" is for the cluster's own pods")
	}
	return p.allowAccount(&pod.Spec, where, refuse)
}

// allowAccount looks at whose rights the pods would have.
func (p *Policy) allowAccount(pod *corev1.PodSpec, where string, refuse refusing) error {
	field, account := "serviceAccountName", pod.ServiceAccountName
	if account == "" { // the older name of the same
		field, account = "serviceAccount", pod.DeprecatedServiceAccount
	}
	if account == "" || account == "default" || slices.Contains(p.ServiceAccounts, account) {
		return nil
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		return refuse("serviceAccounts", where+"."+field,
			"pods may not run as "+account+"; set automountServiceAccountToken to false, or leave it out")
	}
	for _, volume := range pod.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return refuse("serviceAccounts", where+".volumes[].projected.sources[].serviceAccountToken",
					"pods may not have a token of "+account)
			}
		}
	}
	return nil
}

// fieldOf is the field that a check of the standards is about: they name
// theirs in words.
func fieldOf(spec, reason string) string {
	for word, field := range map[string]string{
		"host namespaces": "hostNetwork, hostPID, hostIPC", "hostPath volumes": "volumes[].hostPath",
		"hostPort": "containers[].ports[].hostPort", "privileged": "containers[].securityContext.privileged",
		"non-default capabilities":  "containers[].securityContext.capabilities",
		"unrestricted capabilities": "containers[].securityContext.capabilities",
		"seccompProfile":            "securityContext.seccompProfile", "forbidden sysctls": "securityContext.sysctls",
		"seLinuxOptions": "securityContext.seLinuxOptions", "procMount": "containers[].securityContext.procMount",
		"hostProcess": "securityContext.windowsOptions.hostProcess", "restricted volume types": "volumes[]",
		"allowPrivilegeEscalation != false": "containers[].securityContext.allowPrivilegeEscalation",
		"runAsNonRoot != true":              "securityContext.runAsNonRoot", "runAsUser=0": "securityContext.runAsUser",
	} {
		if reason == word {
			return spec + "." + field
		}
	}
	return spec
}
