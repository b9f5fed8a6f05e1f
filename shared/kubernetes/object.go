package kubernetes

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The labels of every object of an instance. A tenant or challenge whose id is
// no fit value has a hash of it; annotations of the same keys have the ids as
// they are.
const (
	LabelIdentity  = "mayfly.dev/identity"
	LabelTenant    = "mayfly.dev/tenant"
	LabelChallenge = "mayfly.dev/challenge"
	// LabelInstallation is there if the installation has a name.
	LabelInstallation = "mayfly.dev/installation"
	// labelOwner is on the ConfigMaps that own the others.
	labelOwner = "mayfly.dev/owner"
)

// longestName leaves room for what Kubernetes appends to the names of pods.
const longestName = 52

// An objectName is where an object is.
type objectName struct{ namespace, name string }

// id is the resource's id, the one that Pulumi's own provider gives.
func (n objectName) id() resource.ID {
	if n.namespace == "" {
		return resource.ID(n.name)
	}
	return resource.ID(n.namespace + "/" + n.name)
}

// nameIn finds an object by its id or, without one, by its inputs.
func nameIn(k kind, id resource.ID, inputs resource.PropertyMap) (objectName, error) {
	if id == "" {
		fields, _, err := decodeMap(inputs)
		if err != nil {
			return objectName{}, err
		}
		object := unstructured.Unstructured{Object: fields}
		return objectName{object.GetNamespace(), object.GetName()}, nil
	}
	namespace, name, found := strings.Cut(string(id), "/")
	if !found {
		namespace, name = "", namespace
	}
	if found != k.namespaced || name == "" {
		return objectName{}, fmt.Errorf("no %s can have the id %q", k.Kind, id)
	}
	return objectName{namespace, name}, nil
}

// autoname is the name of an object whose program gave none: it says what it is
// and of which instance, and is the same each time. Where that does not fit, a
// hash keeps names apart.
func autoname(urn resource.URN, prefix string) string {
	wanted := prefix
	if wanted == "" {
		wanted = urn.Name() + "-"
	}
	unfit := regexp.MustCompile(`[^a-z0-9-]+`)
	stem := strings.Trim(unfit.ReplaceAllString(strings.ToLower(wanted), "-"), "-")
	if stem == "" || stem[0] < 'a' {
		stem = "x" + stem // a Service's name begins with a letter
	}
	identity := identityOf(urn)
	tail := "-" + string(identity)
	if stem+"-" != wanted || urn.QualifiedType() != urn.Type() || len(stem)+len(tail) > longestName ||
		len(validation.IsDNS1123Label(string(identity))) > 0 {
		sum := sha256.Sum256([]byte(string(urn.QualifiedType()) + "\x00" + urn.Name() + "\x00" + prefix + "\x00" + string(identity)))
		tail = "-" + hex.EncodeToString(sum[:10])
	}
	return strings.TrimRight(stem[:min(len(stem), longestName-len(tail))], "-") + tail
}

// labelsOf are the labels and annotations of an instance's objects.
func (p *Provider) labelsOf(identity ctf.Identity) (labels, annotations map[string]string) {
	p.mu.Lock()
	key := p.instance
	p.mu.Unlock()
	labels = map[string]string{LabelIdentity: labelValue(string(identity))}
	if p.installation != "" {
		labels[LabelInstallation] = p.installation
	}
	if key.Identity != identity {
		return labels, nil
	}
	labels[LabelTenant] = labelValue(string(key.Challenge.Tenant))
	labels[LabelChallenge] = labelValue(string(key.Challenge.ID))
	return labels, map[string]string{LabelTenant: string(key.Challenge.Tenant), LabelChallenge: string(key.Challenge.ID)}
}

// labelValue is the text itself, or a hash of one that can't be a label.
func labelValue(text string) string {
	if len(validation.IsValidLabelValue(text)) == 0 {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "h-" + hex.EncodeToString(sum[:16])
}

// owns tells whether an object belongs to the instance.
func (p *Provider) owns(live *unstructured.Unstructured, identity ctf.Identity) bool {
	labels := live.GetLabels()
	return labels[LabelIdentity] == labelValue(string(identity)) && labels[LabelInstallation] == p.installation
}

// selector finds the objects of an instance or, with an empty identity, those
// of the whole installation.
func (p *Provider) selector(identity ctf.Identity) string {
	terms := LabelIdentity
	if identity != "" {
		terms += "=" + labelValue(string(identity))
	}
	if p.installation == "" {
		return terms + ",!" + LabelInstallation
	}
	return terms + "," + LabelInstallation + "=" + p.installation
}

var errUnknown = errors.New("a value is not known yet")

// desired is the object that the inputs describe, as it is applied, but for its
// owner. Inputs that are not all known are errUnknown.
func (p *Provider) desired(k kind, urn resource.URN, inputs resource.PropertyMap) (*unstructured.Unstructured, error) {
	fields, unknown, err := decodeMap(inputs)
	if err != nil {
		return nil, err
	}
	if unknown {
		return nil, errUnknown
	}
	object := &unstructured.Unstructured{Object: fields}
	for _, key := range []string{"status", "id", "__defaults"} {
		delete(object.Object, key)
	}
	for _, key := range []string{"creationTimestamp", "resourceVersion", "uid", "generation", "managedFields", "selfLink", "generateName", "ownerReferences"} {
		unstructured.RemoveNestedField(object.Object, "metadata", key)
	}
	labels, annotations := p.labelsOf(identityOf(urn))
	object.SetLabels(merge(object.GetLabels(), labels))
	if len(annotations) > 0 {
		object.SetAnnotations(merge(object.GetAnnotations(), annotations))
	}
	if k.hasPods && len(k.template) > 0 {
		if err := labelAt(object, labels, k.template...); err != nil {
			return nil, err
		}
	}
	if k.hasPods {
		if err := nameAccount(object, k); err != nil {
			return nil, err
		}
	}
	if !p.policy.SelectAnyPods {
		if err := selectOwn(k, object, labels); err != nil {
			return nil, err
		}
	}
	switch k.name() {
	case "Secret":
		err = foldStringData(object)
	case "apps/StatefulSet":
		err = ownClaims(object, labels)
	case "networking.k8s.io/NetworkPolicy":
		closeMetadata(object)
	}
	return object, err
}

func merge(into, from map[string]string) map[string]string {
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, from)
	return into
}

// labelAt labels a template inside of an object, if it is there.
func labelAt(object *unstructured.Unstructured, labels map[string]string, path ...string) error {
	template, found, err := unstructured.NestedMap(object.Object, path...)
	if err != nil || !found {
		return err
	}
	inner := unstructured.Unstructured{Object: template}
	inner.SetLabels(merge(inner.GetLabels(), labels))
	unstructured.RemoveNestedField(template, "metadata", "creationTimestamp")
	return unstructured.SetNestedMap(object.Object, template, path...)
}

// selectOwn narrows what selects pods to those of the instance: others may
// have the same labels, and must neither be reached nor be opened by it. A
// Service without a selector selects none, and stays so.
func selectOwn(k kind, object *unstructured.Unstructured, labels map[string]string) error {
	var path []string
	switch k.name() {
	case "Service":
		path = []string{"spec", "selector"}
		if chosen, _, _ := unstructured.NestedMap(object.Object, path...); len(chosen) == 0 {
			return nil
		}
	case "networking.k8s.io/NetworkPolicy":
		path = []string{"spec", "podSelector", "matchLabels"}
	case "policy/PodDisruptionBudget":
		path = []string{"spec", "selector", "matchLabels"}
	default:
		return nil
	}
	return unstructured.SetNestedField(object.Object, labels[LabelIdentity], append(path, LabelIdentity)...)
}

// nameAccount says which service account pods run as, also when that is the
// default. The API server copies it to a field of an older name, which nobody
// owns: an account that is left out later would stay there.
func nameAccount(object *unstructured.Unstructured, k kind) error {
	spec := append(slices.Clone(k.template), "spec")
	fields, found, err := unstructured.NestedMap(object.Object, spec...)
	if err != nil || !found {
		return err
	}
	account := "default"
	for _, key := range []string{"serviceAccount", "serviceAccountName"} {
		if given, ok := fields[key].(string); ok && given != "" {
			account = given
		}
	}
	delete(fields, "serviceAccount")
	fields["serviceAccountName"] = account
	return unstructured.SetNestedMap(object.Object, fields, spec...)
}

// foldStringData moves the text of a Secret to its data, as the API server
// does: keys that are left out later would stay there otherwise.
func foldStringData(object *unstructured.Unstructured) error {
	text, found, err := unstructured.NestedStringMap(object.Object, "stringData")
	if err != nil || !found {
		return err
	}
	data, _, err := unstructured.NestedStringMap(object.Object, "data")
	if err != nil {
		return err
	}
	encoded := map[string]string{}
	for key, value := range text {
		encoded[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	delete(object.Object, "stringData")
	return unstructured.SetNestedStringMap(object.Object, merge(data, encoded), "data")
}

// ownClaims has the volumes of a StatefulSet go with it, and labels them.
func ownClaims(object *unstructured.Unstructured, labels map[string]string) error {
	claims, found, err := unstructured.NestedSlice(object.Object, "spec", "volumeClaimTemplates")
	if err != nil || !found {
		return err
	}
	for _, claim := range claims {
		fields, ok := claim.(map[string]any)
		if !ok {
			return errors.New("spec.volumeClaimTemplates: not a list of objects")
		}
		inner := unstructured.Unstructured{Object: fields}
		inner.SetLabels(merge(inner.GetLabels(), labels))
		delete(fields, "status")
	}
	if err := unstructured.SetNestedSlice(object.Object, claims, "spec", "volumeClaimTemplates"); err != nil {
		return err
	}
	return unstructured.SetNestedField(object.Object, "Delete", "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted")
}
