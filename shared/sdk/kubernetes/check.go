package kubernetes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A FieldError says what is wrong with one field of a description.
type FieldError struct {
	// Field is the way to the field, such as Containers[web].Ports[0].Port.
	Field string
	// Message says what is wrong and what would be right.
	Message string
}

// Error returns the field and the message.
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// faults collects what is wrong.
type faults struct {
	found []error
}

func (f *faults) add(field, format string, args ...any) {
	f.found = append(f.found, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// Check returns everything that is wrong with the description, each as a
// [FieldError], joined and in a stable order.
func (a *ExposedMultipodArgs) Check() error {
	if a == nil {
		return errors.New("there are no arguments")
	}
	f := new(faults)
	a.checkNames(f)
	a.checkNetwork(f)
	for _, name := range sortedKeys(a.Containers) {
		a.checkContainer(f, name)
	}
	a.checkExposed(f)
	a.checkRules(f)
	if err := a.cycle(); err != nil {
		f.add("Containers", "%v", err)
	}
	return errors.Join(f.found...)
}

func (a *ExposedMultipodArgs) checkNames(f *faults) {
	if !isLabel(a.Identity) {
		f.add("Identity", "%q is %s", a.Identity, noLabel)
	}
	if a.Label != "" && !isLabel(a.Label) {
		f.add("Label", "%q is %s", a.Label, noLabel)
	}
	_, err := netip.ParseAddr(a.Hostname)
	if !isDomain(a.Hostname) && err != nil {
		f.add("Hostname", "%q is no name of a host, such as ctf.example", a.Hostname)
	}
}

func (a *ExposedMultipodArgs) checkNetwork(f *faults) {
	if a.FromCIDR != "" && !isCIDR(a.FromCIDR) {
		f.add("FromCIDR", "%q is %s", a.FromCIDR, noCIDR)
	}
	for i, cidr := range a.ClusterCIDRs {
		if !isCIDR(cidr) {
			f.add(fmt.Sprintf("ClusterCIDRs[%d]", i), "%q is %s", cidr, noCIDR)
		}
	}
	for _, n := range []struct{ field, value string }{
		{"IngressNamespace", a.IngressNamespace}, {"DNSNamespace", a.DNSNamespace},
	} {
		if n.value != "" && !isLabel(n.value) {
			f.add(n.field, "%q is %s", n.value, noLabel)
		}
	}
	if a.IngressClassName != "" && !isDomain(a.IngressClassName) {
		f.add("IngressClassName", "%q is %s", a.IngressClassName, noDomain)
	}
	if tls := a.IngressTLS; tls != nil && tls.SecretName != "" && !isDomain(tls.SecretName) {
		f.add("IngressTLS.SecretName", "%q is %s", tls.SecretName, noDomain)
	}
}

// checkExposed finds out whether a player can reach anything.
func (a *ExposedMultipodArgs) checkExposed(f *faults) {
	if len(a.Containers) == 0 {
		f.add("Containers", "there is none")
		return
	}
	for _, c := range a.Containers {
		exposed := func(p PortBinding) bool { return p.ExposeType != ExposeInternal }
		if slices.ContainsFunc(c.Ports, exposed) {
			return
		}
	}
	f.add("Containers", "no port is exposed: give one an ExposeType")
}

func (a *ExposedMultipodArgs) checkRules(f *faults) {
	seen := make(map[Rule]bool)
	for i, r := range a.Rules {
		field := fmt.Sprintf("Rules[%d]", i)
		r.Protocol = r.protocol()
		if seen[r] {
			f.add(field, "it is there already: from %s to %s on %d/%s", r.From, r.To, r.On, r.Protocol)
		}
		seen[r] = true
		if _, ok := a.Containers[r.From]; !ok {
			f.add(field+".From", "there is no container %q", r.From)
		}
		to, ok := a.Containers[r.To]
		if !ok {
			f.add(field+".To", "there is no container %q", r.To)
			continue
		}
		listens := func(p PortBinding) bool { return p.Port == r.On && p.protocol() == r.Protocol }
		if !slices.ContainsFunc(to.Ports, listens) {
			f.add(field+".On", "container %q does not listen on %d/%s", r.To, r.On, r.Protocol)
		}
	}
}

const (
	noLabel  = "no name of at most 63 lower-case letters, digits and dashes, with no dash at an end"
	noDomain = "no name of lower-case letters, digits, dashes and dots"
	noCIDR   = "no range of addresses such as 192.0.2.0/24"
)

// isLabel tells whether s is a label of a domain name, as Kubernetes has it.
func isLabel(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
	return s != "" && len(s) <= maxName && strings.Trim(s, "-") == s && consists(s, allowed)
}

func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	const maxDomain = 253
	return len(s) <= maxDomain
}

// isCIDR tells whether s is a range of addresses. IPv4 in the guise of IPv6 is
// none: it would pass by the ranges that stay closed.
func isCIDR(s string) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && !prefix.Addr().Is4In6()
}

// consists tells whether s has no characters but those.
func consists(s, of string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(of, r) })
}
