package kubernetes

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A Plan is what an instance is made of.
type Plan struct {
	// Objects come in an order in which they can be made. The order, and that
	// of every list in them, depends on nothing but the description.
	Objects []Object
	// Endpoints are what players connect to.
	Endpoints []Endpoint
}

// An Object is one Kubernetes object.
type Object struct {
	// Name tells the objects of one kind apart, within the plan. It has neither
	// label nor identity.
	Name string
	// Body is the object: maps, []any, strings, int and bool, and a
	// pulumi.StringInput for each of [Container.EnvOutputs].
	Body map[string]any
	// After are the keys of objects that must be there before.
	After []string
	// Sensitive says that its data is secret.
	Sensitive bool
}

// Kind returns the kind of the object.
func (o Object) Kind() string {
	kind, _ := o.Body["kind"].(string)
	return kind
}

// Key returns what tells the object apart from all others of the plan.
func (o Object) Key() string { return o.Kind() + "/" + o.Name }

// Token returns the type of the object in Pulumi's Kubernetes provider.
func (o Object) Token() string {
	version, _ := o.Body["apiVersion"].(string)
	if !strings.Contains(version, "/") {
		version = "core/" + version
	}
	return "kubernetes:" + version + ":" + o.Kind()
}

// An Endpoint is a port that players can reach.
type Endpoint struct {
	Container  string
	Port       int
	Protocol   string
	ExposeType ExposeType
	// Host is the name that players connect to. A load balancer has its own.
	Host string
	// Object is the key of the Service or the Ingress that exposes the port.
	Object string
}

// Key returns port/PROTOCOL.
func (e Endpoint) Key() string { return strconv.Itoa(e.Port) + "/" + e.Protocol }

// Address returns what players connect to: host:port, or the host of an
// Ingress. spec and status are those of the endpoint's object, as the cluster
// has it. It fails if these do not tell.
func (e Endpoint) Address(spec, status map[string]any) (string, error) {
	switch e.ExposeType {
	case ExposeIngress:
		return e.Host, nil
	case ExposeNodePort:
		switch port := first(spec, "ports")["nodePort"].(type) {
		case int:
			return net.JoinHostPort(e.Host, strconv.Itoa(port)), nil
		case int64:
			return net.JoinHostPort(e.Host, strconv.FormatInt(port, 10)), nil
		case float64:
			return net.JoinHostPort(e.Host, strconv.Itoa(int(port))), nil
		}
		return "", fmt.Errorf("%s has no node port", e.Object)
	case ExposeLoadBalancer:
		balancer, _ := status["loadBalancer"].(map[string]any)
		at := first(balancer, "ingress")
		for _, key := range []string{"hostname", "ip"} {
			if host, _ := at[key].(string); host != "" {
				return net.JoinHostPort(host, strconv.Itoa(e.Port)), nil
			}
		}
		return "", fmt.Errorf("%s was given no address: does the cluster provide load balancers?", e.Object)
	}
	return "", fmt.Errorf("%s is not exposed", e.Object)
}

// first is the first of the objects that are listed under key.
func first(object map[string]any, key string) map[string]any {
	list, _ := object[key].([]any)
	if len(list) == 0 {
		return nil
	}
	out, _ := list[0].(map[string]any)
	return out
}

// Plan returns the objects of the instance, or everything that is wrong with
// its description (see [ExposedMultipodArgs.Check]). It has no effects, and is
// the same for equal descriptions.
func (a *ExposedMultipodArgs) Plan() (*Plan, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	plan := new(Plan)
	for _, name := range a.order() {
		objects, err := a.containerObjects(name, a.Containers[name])
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", name, err)
		}
		plan.Objects = append(plan.Objects, objects...)
		for _, port := range sortedPorts(a.Containers[name].Ports) {
			plan.Objects = append(plan.Objects, a.portObjects(name, port)...)
			if port.ExposeType != ExposeInternal {
				plan.Endpoints = append(plan.Endpoints, a.endpoint(name, port))
			}
		}
	}
	return plan, nil
}

func (a *ExposedMultipodArgs) endpoint(name string, p PortBinding) Endpoint {
	e := Endpoint{Container: name, Port: p.Port, Protocol: p.protocol(), ExposeType: p.ExposeType}
	service := name + "." + portName(p)
	switch p.ExposeType {
	case ExposeIngress:
		e.Host, e.Object = a.host(name, p), "Ingress/"+service
	case ExposeLoadBalancer:
		e.Object = "Service/" + service
	default:
		e.Host, e.Object = a.Hostname, "Service/"+service
	}
	return e
}

// order has the containers that printers name before those that name them.
func (a *ExposedMultipodArgs) order() []string {
	var order []string
	done := make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		for _, needed := range a.needs(name) {
			visit(needed)
		}
		order = append(order, name)
	}
	for _, name := range sortedKeys(a.Containers) {
		visit(name)
	}
	return order
}

// needs are the containers that the printers of a container name.
func (a *ExposedMultipodArgs) needs(name string) []string {
	needed := make(map[string]bool)
	for _, printer := range a.Containers[name].Envs {
		for _, reference := range printer.Services {
			needed[container(reference)] = true
		}
	}
	return sortedKeys(needed)
}

// cycle is a way from a container along printers back to itself, if there is
// one.
func (a *ExposedMultipodArgs) cycle() error {
	const visiting, done = 1, 2
	state := make(map[string]int)
	var way []string
	var visit func(name string) error
	visit = func(name string) error {
		way = append(way, name)
		defer func() { way = way[:len(way)-1] }()
		switch state[name] {
		case visiting:
			return errors.New("printers go round in a circle: " + strings.Join(way[slices.Index(way, name):], ", "))
		case done:
			return nil
		}
		state[name] = visiting
		for _, needed := range a.needs(name) {
			if err := visit(needed); err != nil {
				return err
			}
		}
		state[name] = done
		return nil
	}
	for _, name := range sortedKeys(a.Containers) {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](of map[string]V) []string { return slices.Sorted(maps.Keys(of)) }
