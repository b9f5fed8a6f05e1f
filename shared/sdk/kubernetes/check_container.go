package kubernetes

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
)

// maxContents is what the files of one ConfigMap or Secret may have in all.
const maxContents = 1 << 20

func (a *ExposedMultipodArgs) checkContainer(f *faults, name string) {
	c, field := a.Containers[name], "Containers["+name+"]"
	if !isLabel(name) {
		f.add(field, "its name is %s", noLabel)
	}
	if c.Image == "" {
		f.add(field+".Image", "it is empty")
	} else if strings.ContainsFunc(c.Image, unicode.IsSpace) {
		f.add(field+".Image", "%q has a space in it", c.Image)
	}
	for i, secret := range c.ImagePullSecrets {
		if !isDomain(secret) {
			f.add(fmt.Sprintf("%s.ImagePullSecrets[%d]", field, i), "%q is %s", secret, noDomain)
		}
	}
	if c.Replicas < 0 {
		f.add(field+".Replicas", "%d is less than none", c.Replicas)
	}
	a.checkPorts(f, field, c)
	a.checkEnv(f, field, c)
	checkFiles(f, field, c)
	checkResources(f, field, c)
	checkProbes(f, field, c)
	checkSecurity(f, field+".Security", c.Security)
	for i, e := range c.Egress {
		a.checkEgress(f, fmt.Sprintf("%s.Egress[%d]", field, i), e)
	}
}

func (a *ExposedMultipodArgs) checkPorts(f *faults, field string, c Container) {
	seen := make(map[string]bool)
	for i, p := range c.Ports {
		at := fmt.Sprintf("%s.Ports[%d]", field, i)
		checkPort(f, at, p.Port, p.protocol())
		if key := portName(p); seen[key] {
			f.add(at, "%d/%s is there already", p.Port, p.protocol())
		} else {
			seen[key] = true
		}
		switch p.ExposeType {
		case ExposeInternal, ExposeNodePort, ExposeLoadBalancer:
		case ExposeIngress:
			if p.protocol() != TCP {
				f.add(at+".ExposeType", "an Ingress carries HTTP, not %s", p.protocol())
			}
			if a.IngressClassName != "" && p.Annotations[ingressClassAnnotation] != "" {
				f.add(at+".Annotations", "%s and IngressClassName exclude each other", ingressClassAnnotation)
			}
			if _, err := netip.ParseAddr(a.Hostname); err == nil {
				f.add(at+".ExposeType", "an Ingress needs a name of a host, not %q", a.Hostname)
			}
		default:
			f.add(at+".ExposeType", "%q is none of NodePort, Ingress and LoadBalancer", p.ExposeType)
		}
	}
}

func checkPort(f *faults, field string, port int, protocol string) {
	const maxPort = 65535
	if port < 1 || port > maxPort {
		f.add(field+".Port", "%d is not in 1 to %d", port, maxPort)
	}
	if protocol != TCP && protocol != UDP {
		f.add(field+".Protocol", "%q is neither TCP nor UDP", protocol)
	}
}

func (a *ExposedMultipodArgs) checkEnv(f *faults, field string, c Container) {
	seen := make(map[string]string)
	check := func(part, name string) {
		at := field + "." + part + "[" + name + "]"
		const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
		if name == "" || !consists(name, allowed) || '0' <= name[0] && name[0] <= '9' {
			f.add(at, "an environment variable's name is letters, digits, _, . and -, and begins with no digit")
		}
		if other := seen[name]; other != "" {
			f.add(at, "it is in %s too", other)
		}
		seen[name] = part
	}
	for _, name := range sortedKeys(c.Envs) {
		check("Envs", name)
		if _, err := a.text(c.Envs[name]); err != nil {
			f.add(field+".Envs["+name+"]", "%v", err)
		}
	}
	for _, name := range sortedKeys(c.Secrets) {
		check("Secrets", name)
	}
	for _, name := range sortedKeys(c.SecretRefs) {
		check("SecretRefs", name)
		if ref := c.SecretRefs[name]; !isDomain(ref.Name) || ref.Key == "" {
			f.add(field+".SecretRefs["+name+"]", "it needs the name of a Secret and one of its keys")
		}
	}
	for _, name := range sortedKeys(c.EnvOutputs) {
		check("EnvOutputs", name)
		if c.EnvOutputs[name] == nil {
			f.add(field+".EnvOutputs["+name+"]", "it is nil")
		}
	}
}

func checkFiles(f *faults, field string, c Container) {
	for _, part := range []struct {
		name  string
		files map[string]string
	}{{"Files", c.Files}, {"SecretFiles", c.SecretFiles}} {
		size := 0
		for _, file := range sortedKeys(part.files) {
			at := field + "." + part.name + "[" + file + "]"
			checkPath(f, at, file)
			if _, both := c.Files[file]; both && part.name == "SecretFiles" {
				f.add(at, "it is in Files too")
			}
			if slices.Contains(c.writableDirs(), file) {
				f.add(at, "there is a writable directory already")
			}
			size += len(part.files[file])
		}
		if size > maxContents {
			f.add(field+"."+part.name, "%d bytes are more than the %d that Kubernetes takes: put them into the image", size, maxContents)
		}
	}
	for i, dir := range c.WritableDirs {
		checkPath(f, fmt.Sprintf("%s.WritableDirs[%d]", field, i), dir)
	}
}

func checkPath(f *faults, field, file string) {
	if !path.IsAbs(file) || path.Clean(file) != file || file == "/" || strings.ContainsAny(file, ":\x00") {
		f.add(field, "%q is no absolute path without //, . and ..", file)
	}
}

func checkResources(f *faults, field string, c Container) {
	const smallest = 1 << 20
	for _, part := range []struct {
		name       string
		quantities map[string]string
	}{{"Requests", c.Requests}, {"Limits", c.Limits}} {
		for _, name := range sortedKeys(part.quantities) {
			at := field + "." + part.name + "[" + name + "]"
			if part.quantities[name] == None {
				continue
			}
			n, err := quantity(part.quantities[name])
			switch {
			case err != nil:
				f.add(at, "%v", err)
			case name == "memory" && n < smallest:
				f.add(at, "%s is less than any program needs: memory is counted in bytes, such as 256Mi", part.quantities[name])
			case part.name == "Requests" && c.Limits[name] != "" && c.Limits[name] != None && compare(part.quantities[name], c.Limits[name]) > 0:
				f.add(at, "%s is more than the limit of %s", part.quantities[name], c.Limits[name])
			}
		}
	}
}

func checkProbes(f *faults, field string, c Container) {
	for _, p := range []struct {
		name  string
		probe *Probe
	}{{"Startup", c.Startup}, {"Readiness", c.Readiness}, {"Liveness", c.Liveness}} {
		if p.probe == nil || p.probe.Off {
			continue
		}
		at := field + "." + p.name
		if len(p.probe.Command) == 0 {
			checkPort(f, at, cmp.Or(p.probe.Port, c.firstTCP()), TCP)
		}
		if p.probe.HTTPPath != "" && !strings.HasPrefix(p.probe.HTTPPath, "/") {
			f.add(at+".HTTPPath", "%q does not begin with /", p.probe.HTTPPath)
		}
		if p.probe.HTTPPath != "" && len(p.probe.Command) > 0 {
			f.add(at, "HTTPPath and Command exclude each other")
		}
		if min(p.probe.PeriodSeconds, p.probe.TimeoutSeconds, p.probe.FailureThreshold) < 0 {
			f.add(at, "a number is negative")
		}
	}
}

func checkSecurity(f *faults, field string, s Security) {
	if s.RunAsUser < 0 || s.RunAsGroup < 0 {
		f.add(field, "a user or group is negative")
	}
	for i, capability := range s.AddCapabilities {
		const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
		if capability == "" || !consists(capability, allowed) || strings.HasPrefix(capability, "CAP_") {
			f.add(fmt.Sprintf("%s.AddCapabilities[%d]", field, i), "%q is no capability such as NET_RAW", capability)
		}
	}
}

// checkEgress refuses what would open nothing: a range within a closed one.
func (a *ExposedMultipodArgs) checkEgress(f *faults, field string, e Egress) {
	if e.Port != 0 || e.Protocol != "" {
		checkPort(f, field, e.Port, e.protocol())
	}
	if e.CIDR == "" {
		return
	}
	if !isCIDR(e.CIDR) {
		f.add(field+".CIDR", "%q is %s", e.CIDR, noCIDR)
		return
	}
	open := netip.MustParsePrefix(e.CIDR)
	for _, closed := range a.closed() {
		if closed.Bits() <= open.Bits() && closed.Contains(open.Addr()) {
			f.add(field+".CIDR", "%s is in %s, which stays closed: if it is neither link-local nor of the cluster, "+
				"say in ClusterCIDRs what the cluster's own ranges are", e.CIDR, closed)
		}
	}
}
