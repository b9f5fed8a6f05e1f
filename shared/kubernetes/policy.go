package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A Policy is what a scenario may make. It is read from a file of the operator.
type Policy struct {
	// Kinds are those that may be made: as Service, apps/Deployment,
	// networking.k8s.io/Ingress; also patterns, as cilium.io/* or *.
	Kinds []string `json:"kinds"`
	// Namespaces are where: names or patterns. {target} is the namespace of
	// objects that name none, {identity} is the instance's identity. A
	// Namespace that a scenario makes must fit one with {identity}.
	Namespaces []string `json:"namespaces"`
	// PodSecurity is the level of the Pod Security Standards that pods must
	// meet: privileged (anything goes), baseline or restricted.
	PodSecurity string `json:"podSecurity"`
	// ServiceAccounts are those, besides default, that pods may run as. A pod
	// without a token may name any.
	ServiceAccounts []string `json:"serviceAccounts"`
	// AllowExternalIPs lets Services take any address of the network over.
	AllowExternalIPs bool `json:"allowExternalIPs"`
	// AllowExternalNames lets Services stand for any name, through which an
	// Ingress controller would reach what pods can't.
	AllowExternalNames bool `json:"allowExternalNames"`
	// SelectAnyPods lets Services, NetworkPolicies and PodDisruptionBudgets
	// select pods of others. Without it they select those of the instance alone;
	// pods that a custom kind makes without the instance's label are not.
	SelectAnyPods bool `json:"selectAnyPods"`
	// IngressHosts are the hosts that an Ingress may serve: names or patterns. An
	// Ingress for all hosts, or for a wildcard, needs the pattern *.
	IngressHosts []string `json:"ingressHosts"`

	target string
	pods   podChecks
}

// DefaultPolicy allows what a challenge is commonly made of, in the namespace
// of instances or one of the instance's own, and pods that meet the baseline.
func DefaultPolicy() *Policy {
	return &Policy{
		Kinds: []string{
			"ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount", "Namespace",
			"apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet", "batch/CronJob", "batch/Job",
			"autoscaling/HorizontalPodAutoscaler", "policy/PodDisruptionBudget",
			"networking.k8s.io/Ingress", "networking.k8s.io/NetworkPolicy",
		},
		Namespaces:  []string{"{target}", "{identity}"},
		PodSecurity: string(api.LevelBaseline),
		// Whatever has a name.
		IngressHosts: []string{"?*"},
	}
}

// LoadPolicy reads a policy from a YAML file. What the file leaves out is as in
// [DefaultPolicy]; what it should not hold is an error.
func LoadPolicy(file string) (*Policy, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// ParsePolicy reads a policy as [LoadPolicy] does.
func ParsePolicy(text []byte) (*Policy, error) {
	p := &Policy{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	safe := DefaultPolicy()
	if p.Kinds == nil {
		p.Kinds = safe.Kinds
	}
	if p.Namespaces == nil {
		p.Namespaces = safe.Namespaces
	}
	if p.IngressHosts == nil {
		p.IngressHosts = safe.IngressHosts
	}
	if p.PodSecurity == "" {
		p.PodSecurity = safe.PodSecurity
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Validate tells what is wrong with the policy itself.
func (p *Policy) Validate() error {
	if _, err := api.ParseLevel(p.PodSecurity); err != nil {
		return fmt.Errorf("policy: podSecurity: %w", err)
	}
	for _, pattern := range slices.Concat(p.Kinds, p.Namespaces, p.IngressHosts) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("policy: %q is no pattern", pattern)
		}
	}
	return nil
}

// bind returns the policy for a provider whose objects go to the target
// namespace.
func (p *Policy) bind(target string) *Policy {
	bound := *p
	bound.target = target
	bound.pods = newPodChecks(p.PodSecurity)
	return &bound
}

// A RefusalError says that the policy forbids an object.
type RefusalError struct {
	Rule   string // the part of the policy
	Object string
	Field  string // the path in the object
	Reason string
}

// Error names the rule, the object, the field and the reason.
func (r *RefusalError) Error() string {
	return fmt.Sprintf("the operator's policy (%s) forbids %s: %s: %s", r.Rule, r.Object, r.Field, r.Reason)
}

// allow returns a [RefusalError] unless the object may be made.
func (p *Policy) allow(k kind, object *unstructured.Unstructured, identity ctf.Identity) error {
	refuse := func(rule, field, reason string) error {
		return &RefusalError{Rule: rule, Object: describe(object), Field: field, Reason: reason}
	}
	if !p.allowsKind(k) {
		return refuse("kinds", "kind", k.name()+" is not among the kinds that a scenario may make")
	}
	if err := p.allowPlace(k, object, identity, refuse); err != nil {
		return err
	}
	if len(object.GetFinalizers()) > 0 {
		return refuse("finalizers", "metadata.finalizers", "they would keep the object from being deleted")
	}
	if err := p.allowDetails(k, object, refuse); err != nil {
		return err
	}
	if !k.hasPods {
		return nil
	}
	return p.allowPods(k, object, refuse)
}

type refusing func(rule, field, reason string) error

// allowPlace looks at where the object would be. A place that is not known yet
// is looked at when it is.
func (p *Policy) allowPlace(k kind, object *unstructured.Unstructured, identity ctf.Identity, refuse refusing) error {
	name := object.GetName()
	if k.namespaced && name == ownerName(identity, "").name && k.name() == "ConfigMap" {
		return refuse("names", "metadata.name", "this ConfigMap owns the objects of the instance, choose another name")
	}
	if k.name() == "Namespace" && name != "" && !p.allowsNamespace(name, identity, true) {
		return refuse("namespaces", "metadata.name", name+" is no namespace that this instance may make")
	}
	if namespace := object.GetNamespace(); k.namespaced && namespace != "" && !p.allowsNamespace(namespace, identity, false) {
		return refuse("namespaces", "metadata.namespace", namespace+" is not among the namespaces that a scenario may use")
	}
	return nil
}

func (p *Policy) allowsKind(k kind) bool {
	return slices.ContainsFunc(p.Kinds, func(pattern string) bool { return pattern == "*" || matches(pattern, k.name()) })
}

func (p *Policy) allowsNamespace(name string, identity ctf.Identity, own bool) bool {
	return slices.ContainsFunc(p.Namespaces, func(pattern string) bool {
		if own && !strings.Contains(pattern, "{identity}") {
			return false
		}
		return matches(p.fill(pattern, identity), name)
	})
}

func (p *Policy) fill(pattern string, identity ctf.Identity) string {
	return strings.NewReplacer("{target}", p.target, "{identity}", string(identity)).Replace(pattern)
}

// places are the namespaces that the policy names for an instance; an empty
// identity leaves out those that have one in their name.
func (p *Policy) places(identity ctf.Identity) []string {
	names := []string{p.target}
	for _, pattern := range p.Namespaces {
		if identity == "" && strings.Contains(pattern, "{identity}") {
			continue
		}
		if name := p.fill(pattern, identity); !strings.ContainsAny(name, `*?[\`) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// matches treats a broken pattern, which Validate told of, as one that nothing
// fits.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && !errors.Is(err, path.ErrBadPattern)
}
