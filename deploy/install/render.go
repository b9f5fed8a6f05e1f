// Package install puts the configuration of Mayfly onto a cluster and takes it
// off again. It applies what kustomize makes of the folder config by
// server-side apply, remembers what it applied, and waits until it works. It
// knows Kubernetes and Knative, and nothing of what the functions do.
package install

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	// DefaultNamespace is the one that the configuration is written for.
	DefaultNamespace = "mayfly"
	// instancesSuffix makes the namespace of instances from that of functions.
	instancesSuffix = "-instances"
	// localOverlay is the one whose Redis has no volume of its own.
	localOverlay = "local"
	settings     = "settings"
)

// Options say what is put onto a cluster.
type Options struct {
	// Config is the folder with base, overlays and components.
	Config string
	// Overlay is a folder in Config/overlays.
	Overlay string
	// Namespace is where the functions go; instances go into another one, whose
	// name is this one's and "-instances". Empty is [DefaultNamespace].
	Namespace string
	// Images are the references of the images that the configuration names.
	Images map[string]string
	// Public gives the gateway an address outside of the cluster.
	Public bool
	// Redis is the address of a Redis that is there already, as the functions read
	// it; empty makes one.
	Redis string
	// Domain is a host at which the gateway is reached as well, from outside of the
	// cluster. Its name server, its certificate and Knative's ingress are the
	// operator's.
	Domain string
	// Scale bounds functions, by their names, in another way than the configuration.
	Scale map[string]Scale
	// Volume gives Redis of the overlay local a volume, so that its data outlive
	// its pod. [Cluster.Up] does so where it can.
	Volume bool
	// Token is what callers must show. Empty leaves the one that is there if
	// [Cluster.Up] finds one, and else lets everybody call.
	Token string
	// RegistryPassword is that of the user OCI_USERNAME of the settings. Empty
	// leaves the one that is there if [Cluster.Up] finds one.
	RegistryPassword string
	// Settings are further settings of the functions, or others instead.
	Settings map[string]string
}

func (o Options) namespace() string {
	if o.Namespace == "" {
		return DefaultNamespace
	}
	return o.Namespace
}

// Render returns the objects of the configuration, as they are to be. The error
// says all that is wrong with the options.
func Render(o Options) ([]*unstructured.Unstructured, error) {
	wrong := o.Check()
	files, err := load(o.Config)
	if err != nil {
		return nil, errors.Join(wrong, fmt.Errorf("read %s: %w", o.Config, err))
	}
	wrong = errors.Join(wrong, o.checkKnown(files))
	objects, err := o.build(files)
	if err != nil {
		return nil, errors.Join(wrong, err)
	}
	if wrong = errors.Join(wrong, rescale(objects, o.Scale)); wrong != nil {
		return nil, wrong
	}
	domain, err := o.domain()
	return append(objects, domain...), err
}

// build has kustomize build the overlay.
func (o Options) build(files filesys.FileSystem) ([]*unstructured.Unstructured, error) {
	if overlays, err := files.ReadDir("/config/overlays"); err != nil || !slices.Contains(overlays, o.Overlay) {
		slices.Sort(overlays)
		return nil, fmt.Errorf("overlay %q: there is none of that name in %s, but %s",
			o.Overlay, filepath.Join(o.Config, "overlays"), strings.Join(overlays, ", "))
	}
	top, err := yaml.Marshal(o.kustomization())
	if err != nil {
		return nil, err
	}
	if err := files.WriteFile("/up/kustomization.yaml", top); err != nil {
		return nil, err
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/up")
	if err != nil {
		return nil, fmt.Errorf("build the overlay %q: %w", o.Overlay, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range built.Resources() {
		object := new(unstructured.Unstructured)
		text, err := resource.MarshalJSON() // its own map has kinds of numbers that no object may have
		if err == nil {
			err = object.UnmarshalJSON(text)
		}
		if err != nil {
			return nil, fmt.Errorf("build the overlay %q: %w", o.Overlay, err)
		}
		objects = append(objects, object)
	}
	for _, object := range objects {
		move(object, o.namespace())
	}
	return objects, nil
}

// kustomization is what stands above the overlay.
func (o Options) kustomization() types.Kustomization {
	literals := []string{
		"K_SINK=http://broker-ingress.knative-eventing.svc.cluster.local/" + o.namespace() + "/mayfly",
		"GATEWAY_TARGET=http://%s." + o.namespace() + ".svc.cluster.local",
		"KUBERNETES_TARGET_NAMESPACE=" + o.namespace() + instancesSuffix,
	}
	for _, name := range slices.Sorted(maps.Keys(o.Settings)) {
		literals = append(literals, name+`="`+o.Settings[name]+`"`) // kustomize takes a pair of quotes away
	}
	k := types.Kustomization{
		TypeMeta:  types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
		Resources: []string{"../config/overlays/" + o.Overlay},
		ConfigMapGenerator: []types.ConfigMapArgs{{GeneratorArgs: types.GeneratorArgs{
			Namespace: DefaultNamespace, Name: settings, Behavior: "merge",
			KvPairSources: types.KvPairSources{LiteralSources: literals},
		}}},
	}
	if o.Public {
		k.Components = append(k.Components, "../config/components/public-gateway")
	}
	if o.Volume && o.Overlay == localOverlay { // others have one
		k.Components = append(k.Components, "../config/components/redis-volume")
	}
	if o.Redis != "" {
		k.Components = append(k.Components, "../config/components/external-redis")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Images)) {
		k.Images = append(k.Images, image(name, o.Images[name]))
	}
	return k
}

// image says where an image is: kustomize wants the parts of its reference.
func image(name, reference string) types.Image {
	if repository, digest, ok := strings.Cut(reference, "@"); ok {
		return types.Image{Name: name, NewName: repository, Digest: digest}
	}
	if at := strings.LastIndex(reference, ":"); at > strings.LastIndex(reference, "/") {
		return types.Image{Name: name, NewName: reference[:at], NewTag: reference[at+1:]}
	}
	return types.Image{Name: name, NewName: reference}
}

// load copies a folder to /config of a file system in memory.
func load(dir string) (filesys.FileSystem, error) {
	files := filesys.MakeFsInMemory()
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return files.WriteFile(path.Join("/config", filepath.ToSlash(name)), content)
	})
	return files, err
}

// move puts an object, and whom it names, into another namespace.
func move(object *unstructured.Unstructured, namespace string) {
	moved := func(name string) string {
		switch name {
		case DefaultNamespace:
			return namespace
		case DefaultNamespace + instancesSuffix:
			return namespace + instancesSuffix
		}
		return name
	}
	if object.GetKind() == "Namespace" {
		object.SetName(moved(object.GetName()))
	}
	if object.GetNamespace() != "" {
		object.SetNamespace(moved(object.GetNamespace()))
	}
	subjects, _, _ := unstructured.NestedSlice(object.Object, "subjects")
	for _, subject := range subjects {
		if fields, ok := subject.(map[string]any); ok {
			if name, ok := fields["namespace"].(string); ok {
				fields["namespace"] = moved(name)
			}
		}
	}
	if subjects != nil {
		object.Object["subjects"] = subjects
	}
}
