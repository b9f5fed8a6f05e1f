package kubernetes

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// resource is an object of a plan that the engine knows.
type resource struct {
	pulumi.CustomResourceState

	Spec   pulumi.AnyOutput `pulumi:"spec"`
	Status pulumi.AnyOutput `pulumi:"status"`
}

// register registers a component and the objects of its plan, and returns the
// addresses of the plan's endpoints.
func register(ctx *pulumi.Context, token, name string, component pulumi.ComponentResource, plan *Plan, opts []pulumi.ResourceOption) (map[string]pulumi.StringMap, error) {
	if err := ctx.RegisterComponentResource(token, name, component, opts...); err != nil {
		return nil, err
	}
	opts = append(slices.Clone(opts), pulumi.Parent(component))
	made := make(map[string]*resource, len(plan.Objects))
	for _, o := range plan.Objects {
		own := slices.Clone(opts)
		for _, key := range o.After {
			own = append(own, pulumi.DependsOn([]pulumi.Resource{made[key]}))
		}
		if o.Sensitive {
			own = append(own, pulumi.AdditionalSecretOutputs([]string{"data"}))
		}
		made[o.Key()] = new(resource)
		if err := ctx.RegisterResource(o.Token(), name+"."+o.Name, properties(o), made[o.Key()], own...); err != nil {
			return nil, fmt.Errorf("register %s: %w", o.Key(), err)
		}
	}
	urls := make(map[string]pulumi.StringMap)
	for _, e := range plan.Endpoints {
		if urls[e.Container] == nil {
			urls[e.Container] = make(pulumi.StringMap)
		}
		urls[e.Container][e.Key()] = address(ctx, e, made[e.Object])
	}
	return urls, nil
}

// address is known when the object is there. A preview may know the object and
// not yet its address.
func address(ctx *pulumi.Context, e Endpoint, r *resource) pulumi.StringOutput {
	return pulumi.All(r.Spec, r.Status).ApplyT(func(state []any) (string, error) {
		spec, _ := state[0].(map[string]any)
		status, _ := state[1].(map[string]any)
		at, err := e.Address(spec, status)
		if err != nil && ctx.DryRun() {
			return "", nil
		}
		return at, err
	}).(pulumi.StringOutput)
}

// properties are the inputs of an object.
func properties(o Object) pulumi.Map {
	props := make(pulumi.Map, len(o.Body))
	for key, value := range o.Body {
		props[key] = input(value)
		if o.Sensitive && key == "data" {
			props[key] = pulumi.ToSecret(props[key])
		}
	}
	return props
}

// input makes an input of what is in an object.
func input(value any) pulumi.Input {
	switch v := value.(type) {
	case pulumi.Input:
		return v
	case map[string]any:
		m := make(pulumi.Map, len(v))
		for key, member := range v {
			m[key] = input(member)
		}
		return m
	case []any:
		a := make(pulumi.Array, len(v))
		for i, member := range v {
			a[i] = input(member)
		}
		return a
	}
	return pulumi.Any(value)
}
