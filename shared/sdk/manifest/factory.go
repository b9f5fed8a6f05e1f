package manifest

import (
	"cmp"
	"errors"
	"net"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/kubernetes"
)

// A Platform is what the operator of a server knows of its cluster, and an
// author does not. Its fields are those of [kubernetes.ExposedMultipodArgs].
type Platform struct {
	// Hostname is what players connect to. A manifest may name another.
	Hostname string
	// FromCIDR is where players may come from; empty is everywhere.
	FromCIDR         string
	IngressClassName string
	IngressNamespace string
	IngressLabels    map[string]string
	// TLS has Ingresses served over TLS, and links begin with https.
	TLS          *kubernetes.IngressTLS
	ClusterCIDRs []string
	DNSNamespace string
}

// errNoHostname is for operators.
var errNoHostname = errors.New("players have no host name to connect to: the server's operator sets one with --instance-hostname; " +
	"else the scenario says hostname: NAME, or hostname: ${additional.hostname} with hostname under overridable")

// Factory describes the instances of the manifest on this platform. Its errors
// say with line and column what is wrong in the manifest, or which additional
// setting is.
func (m *Manifest) Factory(platform Platform) sdk.Factory {
	return func(req *sdk.Request, resp *sdk.Response, opts ...pulumi.ResourceOption) error {
		b, err := m.prepare(platform, req.Config)
		if err != nil {
			return err
		}
		pods, err := kubernetes.NewExposedMultipod(req.Ctx, "instance", b.args, opts...)
		if err != nil {
			return err
		}
		resp.ConnectionInfo = b.connection(pods.URLs)
		flags := make(pulumi.StringArray, 0, len(b.flags))
		for _, name := range m.tree.order(path{"flags"}) {
			flags = append(flags, pulumi.String(b.flags[name]))
		}
		secret, ok := pulumi.ToSecret(flags).(pulumi.StringArrayOutput)
		if !ok {
			return errors.New("the flags can't be kept secret")
		}
		resp.Flags = secret
		return nil
	}
}

// prepare works out the description of an instance, and whether it is right.
func (m *Manifest) prepare(platform Platform, config *sdk.Configuration) (*builder, error) {
	settings, err := m.settings(config.Additional)
	if err != nil {
		return nil, err
	}
	b := &builder{m: m, platform: platform, identity: config.Identity, settings: settings}
	b.build()
	if b.args.Hostname == "" {
		return nil, errNoHostname
	}
	b.checkKit()
	if len(b.faults) > 0 {
		return nil, &InvalidError{Findings: m.findings(b.faults)}
	}
	return b, nil
}

// connection is the text for players, once it is known where they connect to.
func (b *builder) connection(urls pulumi.StringMapMapOutput) pulumi.StringOutput {
	t, _ := parseTemplate(b.m.doc.Connection) // checked before
	if len(t) == 0 {
		t = b.listing()
	}
	return urls.ApplyT(func(urls map[string]map[string]string) (string, error) {
		return t.expand(func(p piece) (string, error) {
			switch p.of {
			case ofAddress, ofHost, ofPort, ofURL:
				e, err := b.endpoint(p.name)
				if err != nil {
					return "", err
				}
				return b.part(p.of, e, urls[e.Container][e.Key()]), nil
			}
			return b.value(p)
		})
	}).(pulumi.StringOutput) //nolint:forcetypeassert // the type of the function says so
}

// part is what a placeholder shows of an endpoint at this address: host:port,
// or the host of an Ingress.
func (b *builder) part(of string, e kubernetes.Endpoint, address string) string {
	scheme, port := "http", "80"
	if b.platform.TLS != nil && e.ExposeType == kubernetes.ExposeIngress {
		scheme, port = "https", "443"
	}
	host := address
	if e.ExposeType != kubernetes.ExposeIngress {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil { // a preview, which knows none yet
			host, port = address, ""
		}
	}
	switch of {
	case ofHost:
		return host
	case ofPort:
		return port
	case ofURL:
		return scheme + "://" + address
	}
	return address
}

// listing is the text for players if the author wrote none: a line for each
// exposed port.
func (b *builder) listing() template {
	var t template
	for i, reference := range b.exposed("") {
		if i > 0 {
			t = append(t, piece{literal: "\n"})
		}
		e, err := b.args.Endpoint(reference)
		if err != nil { // it is one of its own
			continue
		}
		if e.ExposeType == kubernetes.ExposeIngress {
			t = append(t, piece{of: ofURL, name: reference})
			continue
		}
		command := "nc "
		if strings.HasSuffix(reference, "/"+kubernetes.UDP) {
			command = "nc -u "
		}
		t = append(t, piece{literal: command}, piece{of: ofHost, name: reference},
			piece{literal: " "}, piece{of: ofPort, name: reference})
	}
	return t
}

// example is a platform for checks without one. It closes no private ranges, as
// only operators know which are the cluster's.
func example() Platform {
	return Platform{Hostname: "ctf.example", ClusterCIDRs: []string{"255.255.255.255/32"}}
}

// check finds what is wrong with the manifest on any platform.
func (m *Manifest) check() []fault {
	faults := m.checkSettings()
	b := &builder{m: m, platform: example(), identity: "0123456789abcdef"}
	b.settings, b.madeUp = m.samples()
	b.build()
	b.checkConnection()
	b.checkKit()
	return append(faults, b.faults...)
}

// checkFiles finds what is wrong with files once the directory's are there.
func (m *Manifest) checkFiles() []fault {
	var faults []fault
	for _, f := range m.check() {
		if len(f.at) > 2 && f.at[0] == "containers" && f.at[2] == "files" {
			faults = append(faults, f)
		}
	}
	return faults
}

// checkConnection reads the text for players, with addresses as examples.
func (b *builder) checkConnection() {
	at := path{"connection"}
	t, ok := b.parse(at, b.m.doc.Connection, ofAddress, ofHost, ofPort, ofURL, ofFlag, ofFlags, ofIdentity, ofAdditional)
	if !ok {
		return
	}
	for _, p := range t {
		var err error
		switch p.of {
		case "":
		case ofAddress, ofHost, ofPort, ofURL:
			_, err = b.endpoint(p.name)
		default:
			_, err = b.value(p)
		}
		if err != nil {
			b.fail(at, "placeholder", err.Error(), "")
		}
	}
}

// checkKit has the kit check the description.
func (b *builder) checkKit() {
	if len(b.exposed("")) == 0 {
		b.fail(path{"containers"}, "not-exposed", "no port is exposed, so that no player can reach the instance",
			"add to a port expose: ingress for HTTP, or expose: nodeport")
	}
	err := b.args.Check()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, err := range joined.Unwrap() {
		var field *kubernetes.FieldError
		if !errors.As(err, &field) {
			continue
		}
		at := kitPath(field.Field)
		if strings.HasPrefix(field.Message, "no port is exposed") || b.failed(at) {
			continue // it was said before, in the author's words
		}
		b.fail(at, "value", field.Message, "")
	}
}

// failed tells whether something is known to be wrong at a place.
func (b *builder) failed(at path) bool {
	for _, f := range b.faults {
		if f.at.within(at) {
			return true
		}
	}
	return false
}

// kitPath is where the manifest has what the kit names such as
// Containers[web].Ports[0].Port.
func kitPath(field string) path {
	names := map[string]string{
		"Envs": "env", "Secrets": "env", "SecretRefs": "env", "SecretFiles": "files", "WritableDirs": "writable",
		"ImagePullSecrets": "pullSecrets", "ExposeType": "expose", "CIDR": "to", "On": "port", "HTTPPath": "http",
		"AddCapabilities": "capabilities",
	}
	var at path
	for field != "" {
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			end = len(field)
		}
		name := field[:end]
		at = append(at, cmp.Or(names[name], strings.ToLower(name[:min(1, len(name))])+name[min(1, len(name)):]))
		field = field[end:]
		if strings.HasPrefix(field, "[") {
			inner, rest, more := strings.Cut(field[1:], "].")
			if !more {
				inner, rest = strings.TrimSuffix(inner, "]"), ""
			}
			at, field = append(at, inner), rest
			continue
		}
		field = strings.TrimPrefix(field, ".")
	}
	return at
}
