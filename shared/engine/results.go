package engine

import (
	"errors"
	"fmt"

	pulumi "github.com/pulumi/pulumi/pkg/v3/engine"
	"github.com/pulumi/pulumi/pkg/v3/resource/stack"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// results reads what the program exported.
func (o *operation) results(final *apitype.DeploymentV3) (outcome, error) {
	outputs, err := stack.DeserializeStackOutputs(o.ctx, *final, stack.Base64SecretsProvider{})
	if err != nil {
		return outcome{}, fmt.Errorf("read the outputs: %w", err)
	}
	out, err := o.exported(outputs)
	if err != nil {
		return outcome{}, err
	}
	out.Base, err = encode(o.ctx, final)
	return out, err
}

// exported reads outputs; what is not known yet counts as absent.
func (o *operation) exported(outputs resource.PropertyMap) (out outcome, err error) {
	if out.ConnectionInfo, _, err = text(outputs["connection_info"]); err != nil {
		return outcome{}, o.words.fail("output connection_info", err)
	}
	flag, ok, err := text(outputs["flag"])
	if err != nil {
		return outcome{}, o.words.fail("output flag", err)
	}
	if ok {
		out.Flags = append(out.Flags, flag)
	}
	flags, err := texts(outputs["flags"])
	if err != nil {
		return outcome{}, o.words.fail("output flags", err)
	}
	out.Flags = append(out.Flags, flags...)
	return out, nil
}

// listen notes the errors among the events of Pulumi's engine, and what the
// program exports.
func (o *operation) listen(event pulumi.Event) {
	o.words.listen(event)
	payload, ok := event.Payload().(pulumi.ResourceOutputsEventPayload)
	if !ok || payload.Metadata.New == nil {
		return
	}
	// The state, and not the outputs beside it, in which secrets are blotted out.
	if state := payload.Metadata.New.State; state != nil && state.Type == resource.RootStackType {
		o.planned = state.Outputs
	}
}

// text reads a string; ok is false if there is none.
func text(v resource.PropertyValue) (s string, ok bool, err error) {
	v = revealed(v)
	switch {
	case v.IsNull() || v.IsComputed():
		return "", false, nil
	case v.IsString():
		return v.StringValue(), true, nil
	}
	return "", false, fmt.Errorf("must be a string and is a %s", v.TypeString())
}

// texts reads a list of strings.
func texts(v resource.PropertyValue) ([]string, error) {
	v = revealed(v)
	if v.IsNull() || v.IsComputed() {
		return nil, nil
	}
	if !v.IsArray() {
		return nil, fmt.Errorf("must be a list of strings and is a %s", v.TypeString())
	}
	var list []string
	for i, item := range v.ArrayValue() {
		if unknown(item) {
			continue
		}
		s, ok, err := text(item)
		if err == nil && !ok {
			err = errors.New("must be a string and has no value")
		}
		if err != nil {
			return nil, fmt.Errorf("item %d %w", i+1, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// unknown tells whether a value is known only once the program is deployed.
func unknown(v resource.PropertyValue) bool {
	for v.IsSecret() {
		v = v.SecretValue().Element
	}
	return v.IsComputed() || v.IsOutput() && !v.OutputValue().Known
}

// revealed takes a value out of its secret and output wrappings.
func revealed(v resource.PropertyValue) resource.PropertyValue {
	for {
		switch {
		case v.IsSecret():
			v = v.SecretValue().Element
		case v.IsOutput() && v.OutputValue().Known:
			v = v.OutputValue().Element
		case v.IsOutput():
			return resource.NewNullProperty()
		default:
			return v
		}
	}
}
