package kubernetes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// one is the name of a monopod's container.
const one = "one"

// ExposedMonopodArgs describe an instance of one container. Identity, Hostname
// and Container must be there, and at least one port exposed. Fields that are
// not explained here are as in [ExposedMultipodArgs].
type ExposedMonopodArgs struct {
	Identity string
	Label    string
	Hostname string
	// Container is named "one" in labels and names.
	Container Container

	FromCIDR         string
	IngressNamespace string
	IngressLabels    map[string]string
	IngressClassName string
	IngressTLS       *IngressTLS
	ClusterCIDRs     []string
	DNSNamespace     string
}

// Multipod returns the same instance as one of several containers.
func (a *ExposedMonopodArgs) Multipod() *ExposedMultipodArgs {
	return &ExposedMultipodArgs{
		Identity:         a.Identity,
		Label:            a.Label,
		Hostname:         a.Hostname,
		Containers:       map[string]Container{one: a.Container},
		FromCIDR:         a.FromCIDR,
		IngressNamespace: a.IngressNamespace,
		IngressLabels:    a.IngressLabels,
		IngressClassName: a.IngressClassName,
		IngressTLS:       a.IngressTLS,
		ClusterCIDRs:     a.ClusterCIDRs,
		DNSNamespace:     a.DNSNamespace,
	}
}

// Check returns everything that is wrong with the description, each as a
// [FieldError], joined and in a stable order.
func (a *ExposedMonopodArgs) Check() error {
	if a == nil {
		return errors.New("there are no arguments")
	}
	f := new(faults)
	if len(a.Container.Ports) == 0 {
		f.add("Container.Ports", "there is none")
	}
	if err, ok := a.Multipod().Check().(interface{ Unwrap() []error }); ok {
		f.found = append(f.found, renamed(err.Unwrap(), len(f.found) > 0)...)
	}
	return errors.Join(f.found...)
}

// renamed says of the fields of the one container where they are in the args of
// a monopod. Without ports it is known already that none is exposed.
func renamed(errs []error, portless bool) []error {
	var out []error
	for _, err := range errs {
		var e *FieldError
		if errors.As(err, &e) && e.Field == "Containers" {
			if portless {
				continue
			}
			err = &FieldError{Field: "Container.Ports", Message: e.Message}
		} else if e != nil {
			field := strings.Replace(e.Field, "Containers["+one+"]", "Container", 1)
			err = &FieldError{Field: field, Message: e.Message}
		}
		out = append(out, err)
	}
	return out
}

// Plan returns the objects of the instance, or everything that is wrong with
// its description. It has no effects, and is the same for equal descriptions.
func (a *ExposedMonopodArgs) Plan() (*Plan, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	return a.Multipod().Plan()
}

// An ExposedMonopod is an instance of one container.
type ExposedMonopod struct {
	pulumi.ResourceState

	// URLs are what players connect to, by port/PROTOCOL: host:port, or the
	// host of an Ingress, without a scheme. Ports that are not exposed have
	// none.
	URLs pulumi.StringMapOutput
}

// NewExposedMonopod registers the objects of an instance of one container. It
// fails with everything that is wrong with args, and registers nothing then.
func NewExposedMonopod(ctx *pulumi.Context, name string, args *ExposedMonopodArgs, opts ...pulumi.ResourceOption) (*ExposedMonopod, error) {
	plan, err := args.Plan()
	if err != nil {
		return nil, fmt.Errorf("monopod %s: %w", name, err)
	}
	m := new(ExposedMonopod)
	urls, err := register(ctx, "ctfer-io:chall-manager/sdk:kubernetes.ExposedMonopod", name, m, plan, opts)
	if err != nil {
		return nil, fmt.Errorf("monopod %s: %w", name, err)
	}
	m.URLs = urls[one].ToStringMapOutput()
	if err := ctx.RegisterResourceOutputs(m, pulumi.Map{"urls": m.URLs}); err != nil {
		return nil, fmt.Errorf("monopod %s: %w", name, err)
	}
	return m, nil
}
