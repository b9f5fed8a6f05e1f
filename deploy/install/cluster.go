package install

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// manager is who the API server says has set what we apply.
const manager = "mayfly-deploy"

// A Cluster is a connection to an API server.
type Cluster struct {
	objects dynamic.Interface
	kinds   meta.RESTMapper
	http    *http.Client
	base    *url.URL
}

// Connect returns the cluster that kubectl would use: the current context of
// $KUBECONFIG or of the home directory.
func Connect() (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return NewCluster(config)
}

// NewCluster returns the cluster of a configuration.
func NewCluster(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // no limit of ours: the API server has its own
	config.UserAgent = manager
	config.WarningHandlerWithContext = rest.NoWarnings{}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &Cluster{
		objects: objects, http: client, base: base,
		kinds: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds)),
	}, nil
}

// at returns where objects of a kind are.
func (c *Cluster) at(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := c.kinds.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("the cluster has no kind %s in %s: are Knative Serving and Eventing installed?", gvk.Kind, gvk.GroupVersion())
	}
	if err != nil {
		return nil, fmt.Errorf("look up the kind %s: %w", gvk.Kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.objects.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return c.objects.Resource(mapping.Resource), nil
}

func (c *Cluster) get(ctx context.Context, id identity) (*unstructured.Unstructured, error) {
	at, err := c.at(id.GroupVersionKind, id.Namespace)
	if err != nil {
		return nil, err
	}
	return at.Get(ctx, id.Name, metav1.GetOptions{})
}

// read fills a typed object; one that is not there is an error.
func (c *Cluster) read(ctx context.Context, id identity, into any) error {
	live, err := c.get(ctx, id)
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, into)
}

// apply makes an object as it is to be, and tells whether that changed it.
func (c *Cluster) apply(ctx context.Context, object *unstructured.Unstructured, dry bool) (changed bool, err error) {
	id := identify(object)
	at, err := c.at(id.GroupVersionKind, id.Namespace)
	if err != nil {
		return false, err
	}
	before := ""
	switch live, err := at.Get(ctx, id.Name, metav1.GetOptions{}); {
	case err == nil:
		before = live.GetResourceVersion()
	case !apierrors.IsNotFound(err):
		return false, fmt.Errorf("look at %s: %w", id, err)
	}
	body, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	force := true
	options := metav1.PatchOptions{FieldManager: manager, Force: &force, FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	after, err := at.Patch(ctx, id.Name, types.ApplyPatchType, body, options)
	if err != nil {
		return false, fmt.Errorf("apply %s: %w", id, err)
	}
	return before != after.GetResourceVersion(), nil
}

// remove deletes an object; one that is not there is no error.
func (c *Cluster) remove(ctx context.Context, id identity) error {
	at, err := c.at(id.GroupVersionKind, id.Namespace)
	if err != nil {
		return err
	}
	policy := metav1.DeletePropagationBackground
	err = at.Delete(ctx, id.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}

// An identity finds an object.
type identity struct {
	schema.GroupVersionKind
	Namespace, Name string
}

func identify(object *unstructured.Unstructured) identity {
	return identity{object.GroupVersionKind(), object.GetNamespace(), object.GetName()}
}

// String returns the object as people write it.
func (i identity) String() string {
	if i.Namespace == "" {
		return i.Kind + " " + i.Name
	}
	return i.Kind + " " + i.Namespace + "/" + i.Name
}
