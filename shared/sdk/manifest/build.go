package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// A builder makes the kit's description of one instance from a manifest, and
// collects what is wrong on the way.
type builder struct {
	m        *Manifest
	platform Platform
	identity string
	settings map[string]string
	// madeUp are the settings whose values nobody knows yet.
	madeUp map[string]bool
	flags  map[string]string
	// after are the containers that start before one.
	after  map[string][]string
	args   *kubernetes.ExposedMultipodArgs
	faults []fault
}

func (b *builder) fail(at path, rule, message, fix string) {
	b.faults = append(b.faults, fault{at: at, rule: rule, message: message, fix: fix})
}

// build works out the whole description.
func (b *builder) build() {
	b.flags, b.after = make(map[string]string), make(map[string][]string)
	p := b.platform
	hostname, known := b.text(path{"hostname"}, b.m.doc.Hostname, ofAdditional)
	if hostname == "" || !known {
		hostname = p.Hostname
	}
	b.args = &kubernetes.ExposedMultipodArgs{
		Identity: b.identity, Hostname: hostname, Containers: make(map[string]kubernetes.Container),
		FromCIDR: p.FromCIDR, IngressNamespace: p.IngressNamespace, IngressLabels: p.IngressLabels,
		IngressClassName: p.IngressClassName, IngressTLS: p.TLS, ClusterCIDRs: p.ClusterCIDRs, DNSNamespace: p.DNSNamespace,
	}
	b.makeFlags()
	for name, c := range b.m.doc.Containers { // texts name ports of any of them
		b.args.Containers[name] = kubernetes.Container{Ports: c.ports()}
	}
	for _, name := range b.m.tree.order(path{"containers"}) {
		b.container(name, b.m.doc.Containers[name])
	}
	for _, r := range b.m.doc.Rules {
		b.args.Rules = append(b.args.Rules, kubernetes.Rule{From: r.From, To: r.To, On: r.Port, Protocol: r.Protocol})
	}
}

// text fills in a text, in which these kinds of placeholders may be. known tells
// whether its value counts: it does not if something is wrong or made up.
func (b *builder) text(at path, text string, allowed ...string) (value string, known bool) {
	t, ok := b.parse(at, text, allowed...)
	if !ok {
		return "", false
	}
	known = true
	value, err := t.expand(func(p piece) (string, error) {
		if p.of == ofAdditional && b.madeUp[p.name] {
			known = false
		}
		return b.value(p)
	})
	if err != nil {
		b.fail(at, "placeholder", err.Error(), "")
		return "", false
	}
	return value, known
}

// parse reads a text and refuses placeholders that are not allowed there.
func (b *builder) parse(at path, text string, allowed ...string) (template, bool) {
	t, err := parseTemplate(text)
	if err != nil {
		b.fail(at, "placeholder", err.Error(), "write $${ for the characters ${ themselves")
		return nil, false
	}
	ok := true
	for _, p := range t {
		if p.of != "" && !slices.Contains(allowed, p.of) {
			fix := "there are " + strings.Join(shapes(allowed), ", ") + "; write $${ for the characters ${ themselves"
			for _, kind := range allowed {
				if near(p.of, kind) {
					fix = "did you mean " + piece{of: kind, name: p.name}.String() + "?"
					break
				}
			}
			b.fail(at, "placeholder", p.String()+" is no placeholder here", fix)
			ok = false
		}
	}
	return t, ok
}

// shapes are what placeholders look like.
func shapes(kinds []string) []string {
	var out []string
	for _, kind := range kinds {
		switch kind {
		case ofFlag, ofIdentity:
			out = append(out, "${"+kind+"}")
		case ofFlags, ofAdditional:
			out = append(out, "${"+kind+".NAME}")
		case ofService:
			out = append(out, "${service.CONTAINER:PORT}")
		default:
			out = append(out, "${"+kind+".CONTAINER:PORT}")
		}
	}
	return out
}

// value is what a placeholder stands for, as far as it is known before anything
// is made.
func (b *builder) value(p piece) (string, error) {
	switch p.of {
	case ofFlag:
		names := b.m.tree.order(path{"flags"})
		if p.name != "" || len(names) != 1 {
			return "", fmt.Errorf("%s is for manifests with one flag, and this one has %d: say ${flags.NAME}", p, len(names))
		}
		return b.flags[names[0]], nil
	case ofFlags:
		if _, ok := b.m.doc.Flags[p.name]; !ok {
			return "", fmt.Errorf("there is no flag %.100q", p.name)
		}
		return b.flags[p.name], nil
	case ofAdditional:
		if _, ok := b.m.doc.Overridable[p.name]; !ok {
			return "", fmt.Errorf("%.100q is not declared under overridable", p.name)
		}
		return b.settings[p.name], nil
	case ofIdentity:
		if p.name != "" {
			return "", fmt.Errorf("%s is no placeholder: there is ${identity}", p)
		}
		return b.identity, nil
	case ofService:
		return b.args.ServiceName(p.name)
	}
	e, err := b.endpoint(p.name)
	if err != nil {
		return "", err
	}
	if e.ExposeType != kubernetes.ExposeIngress {
		return "", fmt.Errorf("%s is not known before the instance runs, unless the port is exposed by ingress: only connection may have it", p)
	}
	return b.part(p.of, e, e.Host), nil
}

// endpoint finds the exposed port that a placeholder names: by container and
// port, by container if it exposes one, or the only one of all.
func (b *builder) endpoint(reference string) (kubernetes.Endpoint, error) {
	if strings.Contains(reference, ":") {
		return b.args.Endpoint(reference)
	}
	exposed := b.exposed(reference)
	if _, ok := b.args.Containers[reference]; reference != "" && !ok {
		return kubernetes.Endpoint{}, fmt.Errorf("there is no container %.100q", reference)
	}
	if len(exposed) != 1 {
		return kubernetes.Endpoint{}, fmt.Errorf("%d ports are exposed: say which as CONTAINER:PORT", len(exposed))
	}
	return b.args.Endpoint(exposed[0])
}

// exposed are references to all ports that a container exposes, or to those of
// all containers if it has no name, in the order of the manifest.
func (b *builder) exposed(only string) []string {
	var references []string
	for _, name := range b.m.tree.order(path{"containers"}) {
		for _, p := range b.args.Containers[name].Ports {
			if (only == "" || name == only) && p.ExposeType != kubernetes.ExposeInternal {
				protocol := p.Protocol
				if protocol == "" {
					protocol = kubernetes.TCP
				}
				references = append(references, name+":"+strconv.Itoa(p.Port)+"/"+protocol)
			}
		}
	}
	return references
}
