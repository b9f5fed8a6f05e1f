package kubernetes

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
)

const (
	// internet and internet6 are all addresses.
	internet  = "0.0.0.0/0"
	internet6 = "::/0"
	// ingressClassAnnotation is what came before the field of that name.
	ingressClassAnnotation = "kubernetes.io/ingress.class"
)

// portObjects are the Service of a port and the Ingress, if that exposes it.
func (a *ExposedMultipodArgs) portObjects(name string, p PortBinding) []Object {
	key := name + "." + portName(p)
	objects := []Object{{Name: key, Body: a.service(name, p)}}
	if p.ExposeType == ExposeIngress {
		objects = append(objects, Object{Name: key, Body: a.ingress(name, p), After: []string{"Service/" + key}})
	}
	return objects
}

func (a *ExposedMultipodArgs) service(name string, p PortBinding) map[string]any {
	object := a.object("v1", "Service", name, a.name(name, portName(p)))
	spec := map[string]any{
		"type":     "ClusterIP",
		"selector": a.selector(name),
		"ports": []any{map[string]any{
			"name": portName(p), "port": p.Port, "targetPort": p.Port, "protocol": p.protocol(),
		}},
	}
	if p.ExposeType == ExposeNodePort || p.ExposeType == ExposeLoadBalancer {
		spec["type"] = string(p.ExposeType)
		annotate(object, p.Annotations)
		if a.FromCIDR != "" {
			// Else the policy would see the address of a node, not the player's.
			spec["externalTrafficPolicy"] = "Local"
		}
		if a.FromCIDR != "" && p.ExposeType == ExposeLoadBalancer {
			spec["loadBalancerSourceRanges"] = []any{a.FromCIDR}
		}
	}
	object["spec"] = spec
	return object
}

func (a *ExposedMultipodArgs) ingress(name string, p PortBinding) map[string]any {
	object := a.object("networking.k8s.io/v1", "Ingress", name, a.name(name, portName(p)))
	annotate(object, p.Annotations)
	host := a.host(name, p)
	backend := map[string]any{"service": map[string]any{
		"name": a.name(name, portName(p)), "port": map[string]any{"number": p.Port},
	}}
	spec := map[string]any{"rules": []any{map[string]any{
		"host": host,
		"http": map[string]any{"paths": []any{
			map[string]any{"path": "/", "pathType": "Prefix", "backend": backend},
		}},
	}}}
	if a.IngressClassName != "" {
		spec["ingressClassName"] = a.IngressClassName
	}
	if a.IngressTLS != nil {
		tls := map[string]any{"hosts": []any{host}}
		if a.IngressTLS.SecretName != "" {
			tls["secretName"] = a.IngressTLS.SecretName
		}
		spec["tls"] = []any{tls}
	}
	object["spec"] = spec
	return object
}

func annotate(object map[string]any, annotations map[string]string) {
	if metadata, ok := object["metadata"].(map[string]any); ok && len(annotations) > 0 {
		metadata["annotations"] = texts(annotations)
	}
}

// host is the name of a port that an Ingress exposes. It does not tell the
// identity.
func (a *ExposedMultipodArgs) host(name string, p PortBinding) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s-%s-%d/%s", a.scope(), name, p.Port, p.protocol()))
	digits := hex.EncodeToString(sum[:])
	return digits[:min(len(a.Identity), len(digits))] + "." + a.Hostname
}

// networkPolicy says all that a container may do: what selects a pod closes
// everything that it does not open.
func (a *ExposedMultipodArgs) networkPolicy(name string, c Container) map[string]any {
	in, out := []any{}, []any{a.dns()}
	for _, p := range sortedPorts(c.Ports) {
		if from := a.players(p.ExposeType); from != nil {
			in = append(in, way("from", from, p.Port, p.protocol()))
		}
	}
	for _, r := range a.sortedRules() {
		if r.To == name {
			in = append(in, way("from", a.pods(r.From), r.On, r.protocol()))
		}
		if r.From == name {
			out = append(out, way("to", a.pods(r.To), r.On, r.protocol()))
		}
	}
	for _, e := range c.Egress {
		out = append(out, way("to", a.blocks(e), e.Port, e.protocol()))
	}
	object := a.object("networking.k8s.io/v1", "NetworkPolicy", name, a.name(name))
	object["spec"] = map[string]any{
		"podSelector": map[string]any{"matchLabels": a.selector(name)},
		"policyTypes": []any{"Ingress", "Egress"},
		"ingress":     in,
		"egress":      out,
	}
	return object
}

// way opens a port, or all for 0, from or to peers.
func way(direction string, peers []any, port int, protocol string) map[string]any {
	w := map[string]any{direction: peers}
	if port != 0 {
		w["ports"] = []any{map[string]any{"port": port, "protocol": protocol}}
	}
	return w
}

// dns opens the way to the cluster's name servers.
func (a *ExposedMultipodArgs) dns() map[string]any {
	const domain = 53
	return map[string]any{
		"to": []any{namespace(cmp.Or(a.DNSNamespace, "kube-system"))},
		"ports": []any{
			map[string]any{"port": domain, "protocol": TCP},
			map[string]any{"port": domain, "protocol": UDP},
		},
	}
}

// players are who reaches a port that is exposed in this way.
func (a *ExposedMultipodArgs) players(how ExposeType) []any {
	switch {
	case how == ExposeInternal:
		return nil
	case how == ExposeIngress:
		peer := namespace(a.IngressNamespace)
		if len(a.IngressLabels) > 0 {
			peer["podSelector"] = map[string]any{"matchLabels": texts(a.IngressLabels)}
		}
		return []any{peer}
	case a.FromCIDR != "":
		return []any{block(a.FromCIDR)}
	}
	return []any{block(internet), block(internet6)}
}

// namespace is every pod of a namespace; of all if it has no name.
func namespace(name string) map[string]any {
	selector := make(map[string]any)
	if name != "" {
		selector["matchLabels"] = map[string]any{"kubernetes.io/metadata.name": name}
	}
	return map[string]any{"namespaceSelector": selector}
}

func (a *ExposedMultipodArgs) pods(name string) []any {
	return []any{map[string]any{"podSelector": map[string]any{"matchLabels": a.selector(name)}}}
}

func block(cidr string) map[string]any {
	return map[string]any{"ipBlock": map[string]any{"cidr": cidr}}
}

func (a *ExposedMultipodArgs) sortedRules() []Rule {
	return slices.SortedFunc(slices.Values(a.Rules), func(x, y Rule) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To), cmp.Compare(x.On, y.On),
			cmp.Compare(x.protocol(), y.protocol()))
	})
}

// blocks are where an egress that is valid leads.
func (a *ExposedMultipodArgs) blocks(e Egress) []any {
	cidrs := []string{e.CIDR}
	if e.CIDR == "" {
		cidrs = []string{internet, internet6}
	}
	var blocks []any
	for _, cidr := range cidrs {
		open := netip.MustParsePrefix(cidr).Masked()
		ip := map[string]any{"cidr": open.String()}
		var except []any
		for _, closed := range a.closed() {
			if closed.Bits() > open.Bits() && open.Contains(closed.Addr()) {
				except = append(except, closed.String())
			}
		}
		put(ip, "except", except)
		blocks = append(blocks, map[string]any{"ipBlock": ip})
	}
	return blocks
}

// closed are the ranges that no egress opens, in order.
func (a *ExposedMultipodArgs) closed() []netip.Prefix {
	closed := []string{
		"127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10",
		// Metadata services that are not link-local: of Alibaba, Oracle, AWS.
		"100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::254/128",
	}
	cluster := a.ClusterCIDRs
	if len(cluster) == 0 {
		cluster = []string{"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}
	}
	var prefixes []netip.Prefix
	for _, cidr := range append(closed, cluster...) {
		if prefix, err := netip.ParsePrefix(cidr); err == nil { // what is wrong, Check says
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	return outermost(prefixes)
}

// outermost are the ranges that are in no other one, in order. Not all that
// enforce policies take ranges that overlap.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare) // a range comes after those that it is in
	var out []netip.Prefix
	for _, p := range prefixes {
		if len(out) == 0 || !out[len(out)-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}
