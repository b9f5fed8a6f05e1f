package kubernetes

import "cmp"

// An ExposeType says how players reach a port.
type ExposeType string

const (
	// ExposeInternal keeps the port inside the instance. It is the default.
	ExposeInternal ExposeType = ""
	// ExposeNodePort opens a port of the cluster's nodes, for TCP and UDP.
	ExposeNodePort ExposeType = "NodePort"
	// ExposeIngress gives a TCP port that speaks HTTP a host name of its own.
	ExposeIngress ExposeType = "Ingress"
	// ExposeLoadBalancer gives the port a load balancer of its own, for TCP and
	// UDP.
	ExposeLoadBalancer ExposeType = "LoadBalancer"
)

// Protocols of a port.
const (
	TCP = "TCP"
	UDP = "UDP"
)

// A PortBinding is a port that a container listens on, and how it is exposed. A
// container has each pair of port and protocol once.
type PortBinding struct {
	// Port is 1 to 65535.
	Port int
	// Protocol is [TCP] or [UDP]; empty is TCP.
	Protocol string
	// ExposeType says how players reach the port.
	ExposeType ExposeType
	// Annotations of the object that exposes the port: the Ingress, or else the
	// Service.
	Annotations map[string]string
}

func (p PortBinding) protocol() string { return cmp.Or(p.Protocol, TCP) }

// A Rule lets one container of an instance talk to another one.
type Rule struct {
	// From and To name containers.
	From string
	To   string
	// On is a port of To.
	On int
	// Protocol is that of the port; empty is TCP.
	Protocol string
}

func (r Rule) protocol() string { return cmp.Or(r.Protocol, TCP) }

// An Egress lets a container reach addresses beyond its instance. Whatever it
// says, link-local addresses and those of clouds' metadata services stay
// closed, and so do the cluster's own ranges: see
// [ExposedMultipodArgs.ClusterCIDRs].
type Egress struct {
	// CIDR is where to; empty is the whole Internet.
	CIDR string
	// Port narrows it down; 0 is all ports.
	Port int
	// Protocol of Port; empty is TCP.
	Protocol string
}

func (e Egress) protocol() string { return cmp.Or(e.Protocol, TCP) }

// IngressTLS has the Ingress controller serve the hosts over TLS.
type IngressTLS struct {
	// SecretName is a certificate for *.hostname in the namespace; empty is the
	// controller's default certificate.
	SecretName string
}
