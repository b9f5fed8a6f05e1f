package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Check gives an object what the program left out: apiVersion and kind, a name
// and a namespace. What the policy forbids is a [RefusalError]. What is not known
// yet, in a preview, is looked at when it is.
func (p *Provider) Check(ctx context.Context, r plugin.CheckRequest) (plugin.CheckResponse, error) {
	k, err := p.cluster.kindOf(ctx, r.URN.Type())
	if err != nil {
		return plugin.CheckResponse{}, err
	}
	inputs, err := p.complete(k, r.URN, r.News)
	if err != nil {
		return plugin.CheckResponse{}, err
	}
	fields, _, err := decodeMap(inputs)
	if err != nil {
		return plugin.CheckResponse{}, err
	}
	object := &unstructured.Unstructured{Object: fields}
	if err := p.policy.allow(k, object, identityOf(r.URN)); err != nil {
		return plugin.CheckResponse{}, err
	}
	return plugin.CheckResponse{Properties: inputs}, nil
}

// complete fills in what identifies the object.
func (p *Provider) complete(k kind, urn resource.URN, news resource.PropertyMap) (resource.PropertyMap, error) {
	inputs := maps.Clone(news)
	if inputs == nil {
		inputs = resource.PropertyMap{}
	}
	apiVersion, kindName := k.ToAPIVersionAndKind()
	for key, want := range map[resource.PropertyKey]string{"apiVersion": apiVersion, "kind": kindName} {
		if given, unknown, err := decode(inputs[key]); err != nil || !unknown && given != nil && given != want {
			return nil, fmt.Errorf("%s is %v, and the resource's type says %s", key, given, want)
		}
		inputs[key] = resource.NewProperty(want)
	}
	metadata := resource.PropertyMap{}
	if given := inputs["metadata"]; !given.IsNull() && given.V != nil {
		for given.IsSecret() {
			given = given.SecretValue().Element
		}
		if given.IsComputed() || given.IsOutput() {
			return inputs, nil
		}
		if !given.IsObject() {
			return nil, errors.New("metadata is not an object")
		}
		metadata = maps.Clone(given.ObjectValue())
	}
	if absent(metadata["name"]) {
		prefix, _, err := decode(metadata["generateName"])
		if err != nil {
			return nil, err
		}
		text, _ := prefix.(string)
		metadata["name"] = resource.NewProperty(autoname(urn, text))
	}
	if k.namespaced && absent(metadata["namespace"]) {
		p.mu.Lock()
		metadata["namespace"] = resource.NewProperty(p.namespace)
		p.mu.Unlock()
	}
	if !k.namespaced {
		delete(metadata, "namespace")
	}
	inputs["metadata"] = resource.NewProperty(metadata)
	return inputs, nil
}

func absent(v resource.PropertyValue) bool {
	return v.V == nil || v.IsNull() || v.IsString() && v.StringValue() == ""
}

// Create applies the object and returns when it works. What an interrupted
// Create left is taken over. If the object is made and does not get to work,
// the error is a [plugin.InitError], and the resource is there.
func (p *Provider) Create(ctx context.Context, r plugin.CreateRequest) (plugin.CreateResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	if r.Preview {
		out, err := p.preview(ctx, r.URN, r.Properties)
		return plugin.CreateResponse{Properties: out}, err
	}
	live, out, err := p.bring(ctx, r.URN, r.Properties, r.Timeout, nil)
	if live == nil {
		return plugin.CreateResponse{}, err
	}
	response := plugin.CreateResponse{
		ID: objectName{live.GetNamespace(), live.GetName()}.id(), Properties: out,
	}
	if err != nil {
		response.Status = resource.StatusPartialFailure
		err = &plugin.InitError{Reasons: []string{err.Error()}}
	}
	return response, err
}

// Update applies the object and returns when it works, as Create does.
func (p *Provider) Update(ctx context.Context, r plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	if r.Preview {
		out, err := p.preview(ctx, r.URN, r.NewInputs)
		return plugin.UpdateResponse{Properties: out}, err
	}
	live, out, err := p.bring(ctx, r.URN, r.NewInputs, r.Timeout, r.IgnoreChanges)
	if live == nil {
		return plugin.UpdateResponse{}, err
	}
	response := plugin.UpdateResponse{Properties: out}
	if err != nil {
		response.Status = resource.StatusPartialFailure
		err = &plugin.InitError{Reasons: []string{err.Error()}}
	}
	return response, err
}

// bring makes the object as the inputs say and waits until it works. With an
// error it returns the object if that is there.
func (p *Provider) bring(
	ctx context.Context, urn resource.URN, inputs resource.PropertyMap, timeout float64, ignored []string,
) (*unstructured.Unstructured, resource.PropertyMap, error) {
	k, err := p.cluster.kindOf(ctx, urn.Type())
	if err != nil {
		return nil, nil, err
	}
	object, err := p.desired(k, urn, inputs)
	if err != nil {
		return nil, nil, err
	}
	identity := identityOf(urn)
	if err := p.policy.allow(k, object, identity); err != nil {
		return nil, nil, err
	}
	if err := p.adopt(ctx, k, object, identity, false); err != nil {
		return nil, nil, err
	}
	live, err := p.put(ctx, k, object, identity, ignored)
	if err != nil {
		return nil, nil, err
	}
	live, err = p.waitReady(ctx, k, live, limitOf(timeout, p.readyTimeout))
	return live, outputs(live, inputs), err
}

// limitOf is the program's own limit, in seconds, if it has one.
func limitOf(seconds float64, otherwise time.Duration) time.Duration {
	if seconds > 0 {
		return time.Duration(seconds * float64(time.Second))
	}
	return otherwise
}

// preview tells what the object would be: the API server's own answer, but for
// what is only known later. What can't be tried yet is left unknown.
func (p *Provider) preview(ctx context.Context, urn resource.URN, inputs resource.PropertyMap) (resource.PropertyMap, error) {
	k, err := p.cluster.kindOf(ctx, urn.Type())
	if err != nil {
		return nil, err
	}
	out := maps.Clone(inputs)
	object, err := p.desired(k, urn, inputs)
	if err == nil {
		out, err = p.tryOut(ctx, k, object, urn, inputs)
	} else if errors.Is(err, errUnknown) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	// The rest is known, also the ports that a trial gives out: programs wait
	// for the spec of a Service in the middle of their description.
	out["status"] = unknownValue()
	return out, nil
}

func (p *Provider) tryOut(
	ctx context.Context, k kind, object *unstructured.Unstructured, urn resource.URN, inputs resource.PropertyMap,
) (resource.PropertyMap, error) {
	identity := identityOf(urn)
	if err := p.policy.allow(k, object, identity); err != nil {
		return nil, err
	}
	if err := p.adopt(ctx, k, object, identity, true); err != nil {
		return nil, err
	}
	var out resource.PropertyMap
	err := anew(ctx, func() error {
		live, err := p.find(ctx, k, objectName{object.GetNamespace(), object.GetName()}, identity)
		if err != nil {
			return err
		}
		result, err := p.cluster.apply(ctx, k, object, live, identity, true)
		switch {
		case apierrors.IsNotFound(err), isImmutable(err): // its namespace would be made first, or it be replaced
			out = maps.Clone(inputs)
			return nil
		case live == nil && apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict):
			return &foreignError{describe(object)}
		case err != nil:
			return rejected(object, err)
		}
		out = outputs(result, inputs)
		return nil
	})
	return out, err
}

// Read returns the object as it is, and no id for one that is not there or not
// the instance's. Without an id it is found by its inputs: so the engine learns
// what became of a Create that was interrupted.
func (p *Provider) Read(ctx context.Context, r plugin.ReadRequest) (plugin.ReadResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	k, err := p.cluster.kindOf(ctx, r.URN.Type())
	if _, ok := errors.AsType[*unknownKindError](err); ok {
		return plugin.ReadResponse{}, nil // nor is any object of that kind
	}
	if err != nil {
		return plugin.ReadResponse{}, err
	}
	name, err := nameIn(k, r.ID, r.Inputs)
	if err != nil || name.name == "" {
		return plugin.ReadResponse{}, err
	}
	live, err := p.find(ctx, k, name, identityOf(r.URN))
	if err != nil || live == nil {
		return plugin.ReadResponse{}, err
	}
	if r.ID == "" && live.GetDeletionTimestamp() != nil {
		return plugin.ReadResponse{}, nil // about to go: Create waits for that
	}
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{
		ID: name.id(), Inputs: r.Inputs, Outputs: outputs(live, r.Inputs),
	}}, nil
}

// Delete deletes the object, and returns when it and the pods that it made are
// gone. It may be called again, and when nothing is there.
func (p *Provider) Delete(ctx context.Context, r plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	if err := p.discard(ctx, r); err != nil {
		return plugin.DeleteResponse{Status: resource.StatusUnknown}, err
	}
	return plugin.DeleteResponse{}, nil
}

func (p *Provider) discard(ctx context.Context, r plugin.DeleteRequest) error {
	k, err := p.cluster.kindOf(ctx, r.URN.Type())
	if _, ok := errors.AsType[*unknownKindError](err); ok {
		return nil // nor is any object of that kind
	}
	if err != nil {
		return err
	}
	name, err := nameIn(k, r.ID, r.Inputs)
	if err != nil {
		return err
	}
	live, err := p.find(ctx, k, name, identityOf(r.URN))
	if err != nil || live == nil {
		return err
	}
	if uid := uidOf(r.Outputs); uid != "" && uid != live.GetUID() {
		return nil // the one that is meant is gone
	}
	return p.remove(ctx, k, name, live.GetUID(), limitOf(r.Timeout, p.deleteTimeout))
}
