package kubernetes

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// ExposedMultipodArgs describe an instance of several containers. Identity,
// Hostname and Containers must be there, and at least one port exposed.
type ExposedMultipodArgs struct {
	// Identity is that of the instance: the request has it.
	Identity string
	// Label goes into the names of all objects. Components of one instance need
	// labels that differ.
	Label string
	// Hostname is what players connect to: for a NodePort the cluster's nodes,
	// for an Ingress the domain of which each port gets a name.
	Hostname string
	// Containers by name.
	Containers map[string]Container
	// Rules say who may talk to whom; nobody else may.
	Rules []Rule

	// FromCIDR is where players may come from; empty is everywhere. If it is
	// given, a NodePort answers only on the node that runs the container, as
	// otherwise nothing would tell where players come from. It does not apply to
	// an Ingress: see its annotations.
	FromCIDR string
	// IngressNamespace and IngressLabels tell the pods of the Ingress
	// controller. Without them every pod that may reach the instance's ports
	// does.
	IngressNamespace string
	IngressLabels    map[string]string
	// IngressClassName is the class of Ingresses; empty is the cluster's
	// default.
	IngressClassName string
	// IngressTLS has Ingresses served over TLS.
	IngressTLS *IngressTLS
	// ClusterCIDRs are the ranges of the cluster's pods, services and nodes,
	// which stay closed to every [Egress]. If it is empty, all private ranges
	// stay closed.
	ClusterCIDRs []string
	// DNSNamespace is where the cluster's name servers run; empty is
	// kube-system.
	DNSNamespace string
}

// An ExposedMultipod is an instance of several containers.
type ExposedMultipod struct {
	pulumi.ResourceState

	// URLs are what players connect to, by container and port/PROTOCOL:
	// host:port, or the host of an Ingress, without a scheme. Ports that are not
	// exposed have none.
	URLs pulumi.StringMapMapOutput
}

// NewExposedMultipod registers the objects of an instance of several
// containers. It fails with everything that is wrong with args, and registers
// nothing then.
func NewExposedMultipod(ctx *pulumi.Context, name string, args *ExposedMultipodArgs, opts ...pulumi.ResourceOption) (*ExposedMultipod, error) {
	plan, err := args.Plan()
	if err != nil {
		return nil, fmt.Errorf("multipod %s: %w", name, err)
	}
	m := new(ExposedMultipod)
	urls, err := register(ctx, "ctfer-io:chall-manager/sdk:kubernetes.ExposedMultipod", name, m, plan, opts)
	if err != nil {
		return nil, fmt.Errorf("multipod %s: %w", name, err)
	}
	byContainer := make(pulumi.StringMapMap)
	for container, ports := range urls {
		byContainer[container] = ports
	}
	m.URLs = byContainer.ToStringMapMapOutput()
	if err := ctx.RegisterResourceOutputs(m, pulumi.Map{"urls": m.URLs}); err != nil {
		return nil, fmt.Errorf("multipod %s: %w", name, err)
	}
	return m, nil
}
