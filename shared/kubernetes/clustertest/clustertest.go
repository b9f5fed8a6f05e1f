// Package clustertest is what tests need of a real cluster: namespaces, images
// and a look at all that is there. It takes the cluster from the environment:
// KUBECONFIG, REGISTRY (host:port of a registry that speaks plain HTTP, reached
// by the tests and by the cluster under the same name) and INGRESS (host:port
// at which the Ingress controller answers).
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// goneWithin is how long what is deleted may take to go.
const goneWithin = 2 * time.Minute

// A Cluster is the one that the environment names.
type Cluster struct {
	tb testing.TB
	// Config connects to it, without a limit of requests.
	Config *rest.Config
	// Typed and Objects are clients over Config.
	Typed   kubernetes.Interface
	Objects dynamic.Interface
}

// New connects to the cluster, and fails the test if the environment names none.
func New(tb testing.TB) *Cluster {
	tb.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", setting(tb, "KUBECONFIG"))
	check(tb, err)
	config.QPS = -1
	config.WarningHandlerWithContext = rest.NoWarnings{}
	c := &Cluster{tb: tb, Config: config}
	c.Typed, err = kubernetes.NewForConfig(config)
	check(tb, err)
	c.Objects, err = dynamic.NewForConfig(config)
	check(tb, err)
	return c
}

// Namespace makes a namespace with a fresh name, and deletes it after the test.
func (c *Cluster) Namespace() string {
	c.tb.Helper()
	name := "test-" + string(ctf.NewIdentity())
	space := &unstructured.Unstructured{}
	space.SetAPIVersion("v1")
	space.SetKind("Namespace")
	space.SetName(name)
	at := c.Objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	_, err := at.Create(c.tb.Context(), space, metav1.CreateOptions{})
	check(c.tb, err)
	c.tb.Cleanup(func() { check(c.tb, at.Delete(context.Background(), name, metav1.DeleteOptions{})) })
	return name
}

// Close puts the NetworkPolicy in a file into a namespace, as operators do for
// pods whose scenario brings none.
func (c *Cluster) Close(namespace, file string) {
	c.tb.Helper()
	text, err := os.ReadFile(file)
	check(c.tb, err)
	var policy networkingv1.NetworkPolicy
	check(c.tb, yaml.UnmarshalStrict(text, &policy))
	_, err = c.Typed.NetworkingV1().NetworkPolicies(namespace).Create(c.tb.Context(), &policy, metav1.CreateOptions{})
	check(c.tb, err)
}

// NodeAddress returns the address of a node, at which NodePorts answer.
func (c *Cluster) NodeAddress() string {
	c.tb.Helper()
	nodes, err := c.Typed.CoreV1().Nodes().List(c.tb.Context(), metav1.ListOptions{})
	check(c.tb, err)
	for _, node := range nodes.Items {
		for _, address := range node.Status.Addresses {
			if address.Type == "InternalIP" {
				return address.Address
			}
		}
	}
	c.tb.Fatal("no node has an address")
	return ""
}

// Ingress returns host:port of the Ingress controller.
func Ingress(tb testing.TB) string { return setting(tb, "INGRESS") }

// Registry returns host:port of the registry.
func Registry(tb testing.TB) string { return setting(tb, "REGISTRY") }

// List returns all objects with a label, of every kind that the cluster has, as
// Kind namespace/name. Events are none of ours.
func (c *Cluster) List(selector string) []string {
	c.tb.Helper()
	found, err := c.list(c.tb.Context(), metav1.ListOptions{LabelSelector: selector},
		func(*unstructured.Unstructured) (bool, error) { return true, nil })
	check(c.tb, err)
	return found
}

// Mentioning returns, as List does, all objects in which there is a word,
// whatever it is there: a namespace, a part of a name, who has rights.
func (c *Cluster) Mentioning(ctx context.Context, word string) ([]string, error) {
	return c.list(ctx, metav1.ListOptions{}, func(o *unstructured.Unstructured) (bool, error) {
		text, err := o.MarshalJSON()
		return bytes.Contains(text, []byte(word)), err
	})
}

func (c *Cluster) list(ctx context.Context, o metav1.ListOptions, wanted func(*unstructured.Unstructured) (bool, error)) ([]string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return nil, err
	}
	groups, err := client.ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) { // a group whose server is away has nothing of ours
		return nil, err
	}
	var found []string
	for _, group := range groups {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, kind := range group.APIResources {
			if !slices.Contains(kind.Verbs, "list") || kind.Kind == "Event" {
				continue
			}
			list, err := c.Objects.Resource(version.WithResource(kind.Name)).List(ctx, o)
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", kind.Name, err)
			}
			for _, o := range list.Items {
				ours, err := wanted(&o)
				if err != nil {
					return nil, err
				}
				if ours {
					found = append(found, o.GetKind()+" "+strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
				}
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// WantNothing fails the test unless all objects with the label are gone soon:
// the controllers that remove what hangs on others take a moment.
func (c *Cluster) WantNothing(selector string) {
	c.tb.Helper()
	Eventually(c.tb, goneWithin, "nothing is left of "+selector, func() error {
		if left := c.List(selector); len(left) > 0 {
			return errors.New(strings.Join(left, ", "))
		}
		return nil
	})
}

// Eventually waits until the condition holds, and fails the test with its last
// error if it does not in time.
func Eventually(tb testing.TB, within time.Duration, what string, condition func() error) {
	tb.Helper()
	late := time.After(within)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-late:
			tb.Fatalf("%s: %v", what, err)
		case <-look.C:
		}
	}
}

func setting(tb testing.TB, name string) string {
	tb.Helper()
	value := os.Getenv(name)
	if value == "" {
		tb.Fatalf("this test needs a cluster: set %s (README, \"On Kubernetes\")", name)
	}
	return value
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
