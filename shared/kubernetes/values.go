package kubernetes

import (
	"fmt"
	"math"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// decode turns a value of Pulumi's into JSON's, as unstructured objects have
// it. Secrets are taken out of their wraps, nulls are dropped. What is not
// known yet is left out, and told.
func decode(v resource.PropertyValue) (value any, unknown bool, err error) {
	switch {
	case v.IsSecret():
		return decode(v.SecretValue().Element)
	case v.IsOutput():
		if !v.OutputValue().Known {
			return nil, true, nil
		}
		return decode(v.OutputValue().Element)
	case v.IsComputed():
		return nil, true, nil
	case v.IsNull(), v.V == nil:
		return nil, false, nil
	case v.IsBool():
		return v.BoolValue(), false, nil
	case v.IsString():
		return v.StringValue(), false, nil
	case v.IsNumber():
		return number(v.NumberValue()), false, nil
	case v.IsArray():
		return decodeArray(v.ArrayValue())
	case v.IsObject():
		return decodeMap(v.ObjectValue())
	}
	return nil, false, fmt.Errorf("a value of type %s has no place in a Kubernetes object", v.TypeString())
}

func decodeArray(values []resource.PropertyValue) (any, bool, error) {
	list, unknown := make([]any, 0, len(values)), false
	for _, element := range values {
		value, u, err := decode(element)
		if err != nil {
			return nil, false, err
		}
		unknown = unknown || u
		if !u && value != nil {
			list = append(list, value)
		}
	}
	return list, unknown, nil
}

func decodeMap(properties resource.PropertyMap) (map[string]any, bool, error) {
	object, unknown := make(map[string]any, len(properties)), false
	for key, element := range properties {
		value, u, err := decode(element)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", key, err)
		}
		unknown = unknown || u
		if !u && value != nil {
			object[string(key)] = value
		}
	}
	return object, unknown, nil
}

// number keeps whole numbers whole: Pulumi has floats alone.
func number(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}

// outputs are the fields of a live object, secret where the inputs are.
func outputs(live *unstructured.Unstructured, inputs resource.PropertyMap) resource.PropertyMap {
	fields := live.DeepCopy()
	fields.SetManagedFields(nil)
	out := resource.NewPropertyMapFromMap(fields.Object)
	if fields.GetKind() == "Secret" && fields.GroupVersionKind().Group == "" {
		if text, ok := inputs["stringData"]; ok {
			out["stringData"] = text
		}
		for _, key := range []resource.PropertyKey{"data", "stringData"} {
			if v, ok := out[key]; ok && !v.IsSecret() {
				out[key] = resource.MakeSecret(v)
			}
		}
	}
	return markSecrets(resource.NewProperty(out), resource.NewProperty(inputs)).ObjectValue()
}

// markSecrets wraps as a secret what is one in like.
func markSecrets(v, like resource.PropertyValue) resource.PropertyValue {
	if like.IsOutput() && like.OutputValue().Known {
		if like.OutputValue().Secret {
			return secret(v)
		}
		like = like.OutputValue().Element
	}
	switch {
	case like.IsSecret():
		return secret(v)
	case like.IsObject() && v.IsObject():
		marked := v.ObjectValue().Copy()
		for key, element := range like.ObjectValue() {
			if value, ok := marked[key]; ok {
				marked[key] = markSecrets(value, element)
			}
		}
		return resource.NewProperty(marked)
	case like.IsArray() && v.IsArray() && len(like.ArrayValue()) == len(v.ArrayValue()):
		marked := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, element := range v.ArrayValue() {
			marked[i] = markSecrets(element, like.ArrayValue()[i])
		}
		return resource.NewProperty(marked)
	}
	return v
}

func secret(v resource.PropertyValue) resource.PropertyValue {
	if v.IsSecret() {
		return v
	}
	return resource.MakeSecret(v)
}

// unknownValue is a value that is only known once the object is made.
func unknownValue() resource.PropertyValue { return resource.MakeComputed(resource.NewProperty("")) }
