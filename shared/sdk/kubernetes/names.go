package kubernetes

import "fmt"

// ServiceName returns the name by which the containers of the instance reach a
// port: container:port/PROTOCOL, as in [Printer.Services]. It fails if no
// container listens there. Of the args it takes only names and ports.
func (a *ExposedMultipodArgs) ServiceName(reference string) (string, error) {
	port, err := a.resolve(reference)
	if err != nil {
		return "", err
	}
	return a.name(container(reference), portName(port)), nil
}

// Endpoint returns how players reach a port: container:port/PROTOCOL, as in
// [Printer.Services]. It fails if no container listens there, and if the port is
// not exposed. Of the args it takes only names, ports and Hostname.
func (a *ExposedMultipodArgs) Endpoint(reference string) (Endpoint, error) {
	port, err := a.resolve(reference)
	if err != nil {
		return Endpoint{}, err
	}
	if port.ExposeType == ExposeInternal {
		return Endpoint{}, fmt.Errorf("port %d/%s of container %q is not exposed", port.Port, port.protocol(), container(reference))
	}
	return a.endpoint(container(reference), port), nil
}
