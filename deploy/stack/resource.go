package stack

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/eventing/pkg/apis/eventing"
	"knative.dev/eventing/pkg/apis/sources"
	"knative.dev/serving/pkg/apis/serving"
)

const (
	// providerVersion is the release of Pulumi's Kubernetes provider that is
	// asked for.
	providerVersion = "4.25.0"
	// ends is how long a function may go on with what is in flight, and some.
	ends = "15m"
	// begins is how long an object may take to work.
	begins = "10m"

	waitFor   = "pulumi.com/waitFor"
	skipAwait = "pulumi.com/skipAwait"
)

// token is the type of an object in Pulumi's Kubernetes provider.
func token(object *unstructured.Unstructured) string {
	version := object.GetAPIVersion()
	if !strings.Contains(version, "/") {
		version = "core/" + version
	}
	return "kubernetes:" + version + ":" + object.GetKind()
}

// resourceName is unique among objects of a kind. ConfigMaps whose content
// changed have another name, and so are another resource.
func resourceName(object *unstructured.Unstructured) string {
	return strings.TrimPrefix(object.GetNamespace()+"/"+object.GetName(), "/")
}

// isKnative tells whether Knative says of an object that it is ready.
func isKnative(object *unstructured.Unstructured) bool {
	switch object.GroupVersionKind().Group {
	case serving.GroupName, eventing.GroupName, sources.GroupName:
		return true
	}
	return false
}

// optionsOf are what Pulumi is to know of an object.
func optionsOf(object *unstructured.Unstructured) []pulumi.ResourceOption {
	options := []pulumi.ResourceOption{
		pulumi.Version(providerVersion),
		pulumi.Timeouts(&pulumi.CustomTimeouts{Create: begins, Update: begins, Delete: ends}),
	}
	switch {
	case object.GetKind() == "ConfigMap":
		// Pods of the revision before may still start; it goes with its namespace.
		options = append(options, pulumi.RetainOnDelete(true))
	case object.GetKind() == "Secret":
		options = append(options, pulumi.AdditionalSecretOutputs([]string{"data", "stringData"}))
	case object.GetKind() == "PingSource" && object.GetName() == "expire":
		// Functions switch the tick by its schedule.
		options = append(options, pulumi.IgnoreChanges([]string{"spec.schedule"}))
	}
	return options
}

// inputs are the object as the provider takes it.
func inputs(object *unstructured.Unstructured) pulumi.Map {
	object = object.DeepCopy()
	switch {
	case isKnative(object):
		annotate(object, waitFor, "condition=Ready")
	case token(object) == "kubernetes:core/v1:Service":
		annotate(object, skipAwait, "true") // its pods come in a later stage
	}
	props := pulumi.ToMap(object.Object)
	if secret, ok := props["stringData"]; ok {
		props["stringData"] = pulumi.ToSecret(secret)
	}
	return props
}

func annotate(object *unstructured.Unstructured, key, value string) {
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	object.SetAnnotations(annotations)
}
