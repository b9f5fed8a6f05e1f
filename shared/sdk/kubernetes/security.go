package kubernetes

import (
	"cmp"
	"slices"
)

// context is the security context of a container.
func (s Security) context() map[string]any {
	seccomp, drop := "RuntimeDefault", "ALL"
	if s.SeccompUnconfined {
		seccomp = "Unconfined"
	}
	if s.AllowRoot {
		drop = "NET_RAW" // it forges packets; root's other defaults are what images expect
	}
	capabilities := make(map[string]any)
	if !slices.Contains(s.AddCapabilities, drop) { // what is dropped can't be added
		capabilities["drop"] = []any{drop}
	}
	put(capabilities, "add", list(slices.Sorted(slices.Values(s.AddCapabilities))))
	context := map[string]any{
		"runAsNonRoot":             !s.AllowRoot,
		"allowPrivilegeEscalation": s.AllowPrivilegeEscalation,
		"readOnlyRootFilesystem":   !s.WritableRoot,
		"seccompProfile":           map[string]any{"type": seccomp},
		"capabilities":             capabilities,
	}
	if s.RunAsUser != 0 {
		context["runAsUser"] = s.RunAsUser
	}
	if s.RunAsGroup != 0 {
		context["runAsGroup"] = s.RunAsGroup
	}
	return context
}

// podSecurity lets who is not root listen where only root may otherwise.
func (c Container) podSecurity() map[string]any {
	low := func(p PortBinding) bool { return p.Port < privilegedPorts }
	if c.Security.AllowRoot || !slices.ContainsFunc(c.Ports, low) {
		return nil
	}
	return map[string]any{"sysctls": []any{
		map[string]any{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"},
	}}
}

// putProbes sets the probes of a container.
func (c Container) putProbes(container map[string]any) {
	startup := c.Startup
	if startup == nil && c.firstTCP() != 0 {
		startup = new(Probe)
	}
	for _, p := range []struct {
		field               string
		probe               *Probe
		period, atMostFails int
	}{
		{"startupProbe", startup, 1, 300},
		{"readinessProbe", c.Readiness, 10, 3},
		{"livenessProbe", c.Liveness, 10, 3},
	} {
		if p.probe == nil || p.probe.Off {
			continue
		}
		probe := p.probe.action(c.firstTCP())
		probe["periodSeconds"] = cmp.Or(p.probe.PeriodSeconds, p.period)
		probe["timeoutSeconds"] = cmp.Or(p.probe.TimeoutSeconds, 1)
		probe["failureThreshold"] = cmp.Or(p.probe.FailureThreshold, p.atMostFails)
		container[p.field] = probe
	}
}

func (p *Probe) action(port int) map[string]any {
	port = cmp.Or(p.Port, port)
	switch {
	case p.HTTPPath != "":
		return map[string]any{"httpGet": map[string]any{"path": p.HTTPPath, "port": port}}
	case len(p.Command) > 0:
		return map[string]any{"exec": map[string]any{"command": list(p.Command)}}
	}
	return map[string]any{"tcpSocket": map[string]any{"port": port}}
}

// firstTCP is the first TCP port that is listed, or 0.
func (c Container) firstTCP() int {
	i := slices.IndexFunc(c.Ports, func(p PortBinding) bool { return p.protocol() == TCP })
	if i < 0 {
		return 0
	}
	return c.Ports[i].Port
}
