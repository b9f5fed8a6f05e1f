// Package kubernetes describes instances that run on Kubernetes: containers,
// who may talk to whom, and how players reach them. It knows how the objects of
// Kubernetes look and nothing of how they are made: it registers them by token,
// as what the provider's own SDK links would make every scenario large and slow
// to start.
//
// The description is plain data. [ExposedMultipodArgs.Plan] turns it into
// objects and does nothing else; [NewExposedMonopod] and [NewExposedMultipod]
// register these objects.
//
// What is not said is safe: a container is no root, can't become it, can't
// write to its own image, has limits, answers before players are told of it,
// and reaches nothing but the cluster's DNS. Each of these can be opened.
package kubernetes

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	kindLabel     = "chall-manager.ctfer.io/kind"
	identityLabel = "chall-manager.ctfer.io/identity"
	nameLabel     = "app.kubernetes.io/name"
	instanceLabel = "app.kubernetes.io/instance"

	// egressLabel says that the pod's own NetworkPolicies tell all that it may
	// reach. An operator's policy for pods that bring none leaves it alone.
	egressLabel = "mayfly.dev/egress"

	// kind is the value of kindLabel, for one container as for many.
	kind = "exposed-multipod"

	// maxName is how long the name of a Service may be, and the value of a label.
	maxName = 63
)

// scope is what the names of all objects of a component begin with.
func (a *ExposedMultipodArgs) scope() string {
	if a.Label == "" {
		return a.Identity
	}
	return a.Label + "-" + a.Identity
}

// name is the name of the container's objects; parts tell apart those of one
// kind.
func (a *ExposedMultipodArgs) name(container string, parts ...string) string {
	name := strings.Join(append([]string{"emp", a.scope(), container}, parts...), "-")
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	const digits = 10
	return name[:maxName-digits-1] + "-" + hex.EncodeToString(sum[:])[:digits]
}

// portName tells the ports of a container apart.
func portName(p PortBinding) string {
	return strconv.Itoa(p.Port) + "-" + strings.ToLower(p.protocol())
}

// labels are on every object of a container.
func (a *ExposedMultipodArgs) labels(container string) map[string]any {
	labels := a.selector(container)
	labels[kindLabel] = kind
	labels[identityLabel] = a.Identity
	return labels
}

// selector finds the pods of a container, and no other component's.
func (a *ExposedMultipodArgs) selector(container string) map[string]any {
	return map[string]any{nameLabel: container, instanceLabel: bounded(a.scope())}
}

// bounded cuts what is too long for the value of a label, and keeps it unique.
func bounded(value string) string {
	if len(value) <= maxName {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])[:32]
}

// object is a Kubernetes object of a container.
func (a *ExposedMultipodArgs) object(apiVersion, kind, container, name string) map[string]any {
	return map[string]any{
		"apiVersion": apiVersion,
		"kind":       kind,
		"metadata":   map[string]any{"name": name, "labels": a.labels(container)},
	}
}
