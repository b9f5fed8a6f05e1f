// Package stack is Mayfly as a Pulumi program: it reads the configuration of a
// stack, and registers the objects that package install makes of the folder
// config as resources of Pulumi's Kubernetes provider. It knows Pulumi's SDK and
// package install, and asks no cluster.
package stack

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// Describe registers Mayfly as the stack is configured. It exports address,
// where the API is for programs in the cluster, and url, where it is for others
// if it is public. The error names every mistake of the configuration.
func Describe(ctx *pulumi.Context) error {
	s, wrong := read(ctx)
	objects, err := s.objects()
	if err := errors.Join(wrong, err); err != nil {
		return err
	}
	made, err := register(ctx, install.Stages(objects))
	if err != nil {
		return err
	}
	ctx.Export("address", pulumi.String("http://gateway."+s.options.Namespace+".svc.cluster.local"))
	switch {
	case s.options.Domain != "":
		ctx.Export("url", made["DomainMapping "+s.options.Domain].url())
	case s.options.Public:
		ctx.Export("url", made["Service gateway"].url())
	}
	return nil
}

// objects are those of `make up` with the same options, and the Secrets.
func (s *settings) objects() ([]*unstructured.Unstructured, error) {
	objects, err := install.Render(s.options)
	if err := errors.Join(s.secrets.Check(s.options), err); err != nil {
		return nil, err
	}
	if err := install.CheckPublic(objects, s.options.Token != ""); err != nil {
		return nil, err
	}
	if err := s.secrets.Stamp(s.options, objects); err != nil {
		return nil, err
	}
	return append(objects, s.secrets.Objects(s.options)...), nil
}

// A resource is an object that the engine knows.
type resource struct {
	pulumi.CustomResourceState

	Status pulumi.AnyOutput `pulumi:"status"`
}

// url is what Knative says of the address; a preview does not know it yet.
func (r *resource) url() pulumi.StringOutput {
	return r.Status.ApplyT(func(status any) (string, error) {
		text, err := json.Marshal(status)
		if err != nil {
			return "", err
		}
		var known servingv1.RouteStatusFields // a DomainMapping's has the same field
		if err := json.Unmarshal(text, &known); err != nil {
			return "", fmt.Errorf("read the address: %w", err)
		}
		return known.URL.String(), nil
	}).(pulumi.StringOutput)
}

// register registers objects stage by stage and returns the resources of
// Knative's by kind and name. Each stage depends on the one before, so that it
// is made after it and goes before it.
func register(ctx *pulumi.Context, stages [][]*unstructured.Unstructured) (map[string]*resource, error) {
	made := map[string]*resource{}
	var before []pulumi.Resource
	for _, stage := range stages {
		var now []pulumi.Resource
		for _, object := range stage {
			r := new(resource)
			options := append(optionsOf(object), pulumi.DependsOn(before))
			if err := ctx.RegisterResource(token(object), resourceName(object), inputs(object), r, options...); err != nil {
				return nil, fmt.Errorf("register %s %s: %w", object.GetKind(), object.GetName(), err)
			}
			now = append(now, r)
			if isKnative(object) {
				made[object.GetKind()+" "+object.GetName()] = r
			}
		}
		if len(now) > 0 {
			before = now
		}
	}
	return made, nil
}
