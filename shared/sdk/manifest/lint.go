package manifest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Lint returns everything that the author of a manifest should know, in the
// order of its lines: the mistakes, as errors, and the dangers that it has for
// who runs the event.
func Lint(data []byte) []Finding {
	m, found, err := new(Reader).parse(data)
	if wrong, ok := errors.AsType[*InvalidError](err); ok {
		return wrong.Findings
	}
	if err != nil {
		return []Finding{{Line: 1, Column: 1, Severity: SeverityError, Rule: "schema", Message: err.Error()}}
	}
	for _, d := range m.dangers() {
		wrong := func(f Finding) bool { return f.Severity == SeverityError && f.Path == d.Path && d.Path != "" }
		if !slices.ContainsFunc(found, wrong) { // else it is about what has to change anyway
			found = append(found, d)
		}
	}
	return order(found)
}

// A linter collects dangers.
type linter struct {
	m     *Manifest
	found []Finding
}

func (l *linter) add(severity Severity, at path, rule, message, fix string) {
	l.found = append(l.found, l.m.tree.finding(fault{at: at, rule: rule, message: message, fix: fix}, severity))
}

func (l *linter) warn(at path, rule, message, fix string) {
	l.add(SeverityWarning, at, rule, message, fix)
}

func (l *linter) info(at path, rule, message, fix string) {
	l.add(SeverityInfo, at, rule, message, fix)
}

// dangers looks for what would burn who runs the event.
func (m *Manifest) dangers() []Finding {
	l := &linter{m: m}
	for _, name := range m.tree.order(path{"containers"}) {
		c, at := m.doc.Containers[name], path{"containers", name}
		l.image(at.child("image"), c)
		l.limits(at, c)
		l.security(at.child("security"), c.Security)
		l.egress(at.child("egress"), c)
		l.ports(at, name, c)
	}
	l.flags()
	l.texts()
	l.settings()
	l.connection()
	return l.found
}

// image finds images that may be another tomorrow, or anybody's.
func (l *linter) image(at path, c container) {
	t, _ := parseTemplate(c.Image)
	for _, p := range t {
		if s := l.m.doc.Overridable[p.name]; p.of == ofAdditional && len(s.Enum) == 0 && s.Pattern == "" {
			l.warn(at, "open-image", "whoever sets "+p.name+" runs any image", "list what it may be with enum, or bound it with pattern")
		}
	}
	if strings.Contains(c.Image, "@") || c.Image == "" || t.has(ofAdditional) {
		return
	}
	_, tag, tagged := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
	if !tagged || tag == "latest" {
		l.warn(at, "latest-tag", fmt.Sprintf("%.100q may be another image tomorrow, and another on each node", c.Image),
			"name a version, or better a digest: registry/name@sha256:…")
	}
}

// limits finds containers that may take what others need.
func (l *linter) limits(at path, c container) {
	for _, r := range []struct{ name, standard, beyond string }{
		{"cpu", "500m", "it is slowed down"}, {"memory", "256Mi", "it is killed"},
	} {
		limit, given := c.Limits[r.name]
		switch {
		case !given:
			l.info(at.child("limits"), "no-limits",
				fmt.Sprintf("no limit of %s is given: %s applies, beyond which %s", r.name, r.standard, r.beyond),
				"say what it needs, such as limits: {"+r.name+": "+r.standard+"}")
		case strings.Trim(limit, "0.mkKMGTi") == "":
			l.warn(at.child("limits").child(r.name), "no-limits", "0 is no limit: one instance may take all of a node from the others",
				"say what it needs, such as "+r.standard)
		}
	}
	if c.Replicas > 1 {
		l.info(at.child("replicas"), "replicas", "what a player does in one of the copies, the next request may not find in another",
			"leave it out unless the container keeps nothing")
	}
}

// security finds what was opened.
func (l *linter) security(at path, s security) {
	if s.Root {
		l.warn(at.child("root"), "runs-as-root", "who breaks out of it as root is closer to owning the node",
			"give the image a user of its own, or set security: {user: 1000} instead")
	}
	if s.Escalation {
		l.warn(at.child("escalation"), "privilege-escalation", "programs in it may gain more rights than it began with",
			"leave it out, unless sudo or a setuid program is part of the challenge")
	}
	if s.SeccompUnconfined {
		l.warn(at.child("seccompUnconfined"), "privileged", "it may make any system call, also those that kernels were broken by", "leave it out")
	}
	for i, name := range s.Capabilities {
		if name != "NET_BIND_SERVICE" {
			l.warn(at.child("capabilities").child(strconv.Itoa(i)), "privileged",
				name+" is more than a container has; servers may refuse it, as the baseline of Kubernetes does", "leave it out if the challenge works without")
		}
	}
	if s.WritableRoot {
		l.info(at.child("writableRoot"), "writable-root", "players who get in may change the program for the rest of their team",
			"name the directories that it needs under writable instead")
	}
}

// egress finds instances from which others could be attacked.
func (l *linter) egress(at path, c container) {
	for i, e := range c.Egress {
		at := at.child(strconv.Itoa(i))
		switch open, err := netip.ParsePrefix(e.To); {
		case e.To == internet && e.Port == 0:
			l.warn(at, "egress-open", "players who get in can attack anyone on the Internet from here", "name a range, or at least a port")
		case e.To == internet:
			l.info(at, "egress-open", "players who get in reach the whole Internet on this port", "name a range if it is known")
		case err == nil && open.Bits() == 0:
			l.warn(at, "egress-open", "players who get in can attack anyone from here", "name a smaller range")
		case err == nil && open.Addr().IsPrivate():
			l.warn(at, "egress-private", e.To+" is private, and stays closed where the server counts it to the cluster",
				"ask the server's operator whether it may be reached")
		}
	}
}

// ports finds what is exposed in the wrong way, and what nobody reaches.
func (l *linter) ports(at path, name string, c container) {
	exposed := false
	for i, p := range c.Ports {
		if p.Expose == "" || p.Expose == "none" {
			continue
		}
		exposed = true
		at := at.child("ports").child(strconv.Itoa(i))
		if p.Expose == "ingress" && slices.Contains([]int{22, 3306, 5432, 6379, 27017}, p.Port) {
			l.warn(at, "not-http", fmt.Sprintf("an ingress carries HTTP only, and port %d is known for another protocol", p.Port),
				"expose: nodeport")
		}
		if p.Protocol == "UDP" && c.Startup == nil && !slices.ContainsFunc(c.Ports, func(p binding) bool { return p.Protocol != "UDP" }) {
			l.info(at, "no-probe", "nothing tells when a container with UDP ports only is ready: players are sent to it at once",
				"add startup: with a command")
		}
		if c.Startup != nil && c.Startup.Off {
			l.info(at, "no-probe", "nothing tells when the container is ready: players are sent to it at once", "remove startup: false")
		}
	}
	ruled := slices.ContainsFunc(l.m.doc.Rules, func(r rule) bool { return r.To == name })
	if !exposed && !ruled && len(c.Ports) > 0 {
		l.warn(at.child("ports"), "unreachable", "nobody can reach these ports: no rule leads to them, and none is exposed",
			"add a rule such as {from: CONTAINER, to: "+name+", port: "+strconv.Itoa(c.Ports[0].Port)+"}")
	}
}
