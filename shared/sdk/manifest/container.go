package manifest

import (
	"strconv"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// everywhere are the placeholders that a container's texts may have.
func everywhere() []string {
	return []string{ofFlag, ofFlags, ofIdentity, ofAdditional, ofService, ofAddress, ofHost, ofPort, ofURL}
}

func (b *builder) container(name string, c container) {
	at := path{"containers", name}
	out := b.args.Containers[name] // with its ports
	out.Image, _ = b.text(at.child("image"), c.Image, ofAdditional)
	out.ImagePullSecrets = c.PullSecrets
	out.Command = b.words(at.child("command"), c.Command)
	out.Args = b.words(at.child("args"), c.Args)
	b.env(at.child("env"), name, c, &out)
	b.files(at.child("files"), c, &out)
	out.WritableDirs = c.Writable
	out.Requests = b.quantities(at.child("requests"), c.Requests)
	out.Limits = b.quantities(at.child("limits"), c.Limits)
	out.Replicas = c.Replicas
	out.Startup, out.Readiness, out.Liveness = c.Startup.kit(), c.Readiness.kit(), c.Liveness.kit()
	out.Security = kubernetes.Security{
		AllowRoot: c.Security.Root, AllowPrivilegeEscalation: c.Security.Escalation,
		SeccompUnconfined: c.Security.SeccompUnconfined, WritableRoot: c.Security.WritableRoot,
		RunAsUser: c.Security.User, RunAsGroup: c.Security.Group, AddCapabilities: c.Security.Capabilities,
	}
	for _, e := range c.Egress {
		cidr := e.To
		if cidr == internet {
			cidr = ""
		}
		out.Egress = append(out.Egress, kubernetes.Egress{CIDR: cidr, Port: e.Port, Protocol: e.Protocol})
	}
	b.args.Containers[name] = out
}

// internet is what an egress calls all addresses.
const internet = "internet"

func (c container) ports() []kubernetes.PortBinding {
	how := map[string]kubernetes.ExposeType{
		"ingress": kubernetes.ExposeIngress, "nodeport": kubernetes.ExposeNodePort, "loadbalancer": kubernetes.ExposeLoadBalancer,
	}
	var ports []kubernetes.PortBinding
	for _, p := range c.Ports {
		ports = append(ports, kubernetes.PortBinding{
			Port: p.Port, Protocol: p.Protocol, ExposeType: how[p.Expose], Annotations: p.Annotations,
		})
	}
	return ports
}

func (p *probe) kit() *kubernetes.Probe {
	if p == nil {
		return nil
	}
	return &kubernetes.Probe{
		Off: p.Off, HTTPPath: p.HTTP, Command: p.Command, Port: p.Port,
		PeriodSeconds: p.Period, TimeoutSeconds: p.Timeout, FailureThreshold: p.Failures,
	}
}

// words fills in a command line. Kubernetes replaces $(NAME) in it: in what
// the author wrote, and not in what took the place of a placeholder.
func (b *builder) words(at path, words []string) []string {
	var out []string
	for i, word := range words {
		at := at.child(strconv.Itoa(i))
		t, ok := b.parse(at, word, everywhere()...)
		if !ok {
			continue
		}
		text, err := t.expand(func(p piece) (string, error) {
			value, err := b.value(p)
			return strings.ReplaceAll(value, "$", "$$"), err
		})
		if err != nil {
			b.fail(at, "placeholder", err.Error(), "")
		}
		out = append(out, text)
	}
	return out
}

func (b *builder) quantities(at path, of map[string]string) map[string]string {
	if of == nil {
		return nil
	}
	out := make(map[string]string, len(of))
	for name, text := range of {
		if value, known := b.text(at.child(name), text, ofAdditional); known {
			out[name] = value
		}
	}
	return out
}

// env sorts the variables by where the kit keeps them.
func (b *builder) env(at path, name string, c container, out *kubernetes.Container) {
	out.Envs, out.Secrets = make(map[string]kubernetes.Printer), make(map[string]string)
	out.SecretRefs = make(map[string]kubernetes.SecretRef)
	for variable, v := range c.Env {
		at := at.child(variable)
		if v.Secret != "" {
			out.SecretRefs[variable] = kubernetes.SecretRef{Name: v.Secret, Key: v.Key}
			continue
		}
		t, ok := b.parse(at, v.Text, everywhere()...)
		if !ok {
			continue
		}
		if b.sensitive(t) {
			out.Secrets[variable], _ = b.text(at, v.Text, everywhere()...)
			continue
		}
		out.Envs[variable] = b.printer(at, name, t)
	}
}

// printer is a text in which the kit puts the names of services: what they name
// is ready before the container starts. Where that would go round in a circle,
// the name is put in here, and the containers start in any order.
func (b *builder) printer(at path, from string, t template) kubernetes.Printer {
	var format strings.Builder
	var services []string
	for _, p := range t {
		to, _, _ := strings.Cut(p.name, ":")
		if p.of == ofService && b.args.Containers[to].Ports != nil && !b.leads(to, from) {
			services = append(services, p.name)
			b.after[from] = append(b.after[from], to)
			format.WriteString("%s")
			continue
		}
		text, err := template{p}.expand(b.value)
		if err != nil {
			b.fail(at, "placeholder", err.Error(), "")
		}
		format.WriteString(strings.ReplaceAll(text, "%", "%%"))
	}
	return kubernetes.NewPrinter(format.String(), services...)
}

// leads tells whether a container starts after another one, or is it.
func (b *builder) leads(from, to string) bool {
	seen := make(map[string]bool) // there may be a great many ways to each
	for ahead := []string{from}; len(ahead) > 0; ahead = ahead[1:] {
		if ahead[0] == to {
			return true
		}
		if !seen[ahead[0]] {
			seen[ahead[0]] = true
			ahead = append(ahead, b.after[ahead[0]]...)
		}
	}
	return false
}

// files fills in the files. One that is not inline is taken as it is, unless its
// placeholders are wanted.
func (b *builder) files(at path, c container, out *kubernetes.Container) {
	out.Files, out.SecretFiles = make(map[string]string), make(map[string]string)
	for target, f := range c.Files {
		at, text := at.child(target), f.Text
		if f.From != "" {
			text = b.m.files[f.From]
		}
		if f.From != "" && !f.Template {
			out.Files[target] = text
			continue
		}
		t, ok := b.parse(at, text, everywhere()...)
		if !ok {
			continue
		}
		content, _ := b.text(at, text, everywhere()...)
		if b.sensitive(t) {
			out.SecretFiles[target] = content
		} else {
			out.Files[target] = content
		}
	}
}

// sensitive tells whether a text must be kept in a Secret.
func (b *builder) sensitive(t template) bool { return t.secret() }
