package kubernetes

import (
	"fmt"
	"strconv"
	"strings"
)

// A Printer is a text with the names of services in it, by which containers
// find each other. What it names is ready before the container starts. It does
// not open the way: that takes a [Rule].
type Printer struct {
	// Fmt is the text. Each %s in it is replaced by a name, %% by a percent
	// sign.
	Fmt string
	// Services are, for each %s, container:port/PROTOCOL. The protocol may be
	// left out if it is TCP, and the port if the container has only one.
	Services []string
}

// NewPrinter returns a printer of a text with names of services.
func NewPrinter(fmt string, services ...string) Printer {
	return Printer{Fmt: fmt, Services: services}
}

// ToPrinter returns a printer of the very text.
func ToPrinter(text string) Printer {
	return Printer{Fmt: strings.ReplaceAll(text, "%", "%%")}
}

// print replaces each %s by what follows in names.
func (p Printer) print(names []string) (string, error) {
	var out strings.Builder
	used := 0
	for i := 0; i < len(p.Fmt); i++ {
		if p.Fmt[i] != '%' {
			out.WriteByte(p.Fmt[i])
			continue
		}
		i++
		switch {
		case i < len(p.Fmt) && p.Fmt[i] == '%':
			out.WriteByte('%')
		case i < len(p.Fmt) && p.Fmt[i] == 's':
			if used < len(names) {
				out.WriteString(names[used])
			}
			used++
		default:
			return "", fmt.Errorf("a percent sign must be %%s or %%%% in %q", p.Fmt)
		}
	}
	if used != len(names) {
		return "", fmt.Errorf("%q has %d %%s for %d services", p.Fmt, used, len(names))
	}
	return out.String(), nil
}

// container is the one that a reference of a printer names.
func container(reference string) string {
	name, _, _ := strings.Cut(reference, ":")
	return name
}

// resolve finds the port that a reference of a printer means.
func (a *ExposedMultipodArgs) resolve(reference string) (PortBinding, error) {
	name, at, hasPort := strings.Cut(reference, ":")
	c, ok := a.Containers[name]
	if !ok {
		return PortBinding{}, fmt.Errorf("there is no container %q", name)
	}
	if !hasPort {
		if len(c.Ports) == 1 {
			return c.Ports[0], nil
		}
		return PortBinding{}, fmt.Errorf("container %q has %d ports: say which as %s:port", name, len(c.Ports), name)
	}
	number, protocol, _ := strings.Cut(at, "/")
	if protocol == "" {
		protocol = TCP
	}
	for _, p := range c.Ports {
		if strconv.Itoa(p.Port) == number && p.protocol() == protocol {
			return p, nil
		}
	}
	return PortBinding{}, fmt.Errorf("container %q does not listen on %s/%s", name, number, protocol)
}

// text is what a printer that is valid prints.
func (a *ExposedMultipodArgs) text(p Printer) (string, error) {
	names := make([]string, len(p.Services))
	for i, reference := range p.Services {
		port, err := a.resolve(reference)
		if err != nil {
			return "", err
		}
		names[i] = a.name(container(reference), portName(port))
	}
	return p.print(names)
}
