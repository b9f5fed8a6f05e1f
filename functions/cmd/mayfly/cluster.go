package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// clusterPatience is how long a cluster may take to answer who looks whether it
// is there.
const clusterPatience = 10 * time.Second

// A cluster is a connection for looking at what goes on there.
type cluster struct {
	objects   dynamic.Interface
	http      *http.Client
	base      *url.URL
	namespace string
}

// currentCluster returns the cluster that kubectl would use, or, in a pod, its
// own. It returns [kubernetes.ErrNoCluster] if there is none, and sends
// nothing.
func currentCluster() (*cluster, error) {
	config, namespace, err := kubernetes.Config("")
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &cluster{objects: objects, http: client, base: base, namespace: namespace}, nil
}

// check returns an error that says what to do unless the cluster answers and
// has the namespace.
func (c *cluster) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	status, err := c.status(ctx, "version")
	if err != nil {
		return fmt.Errorf("the cluster at %s does not answer: %w; choose another with --kubeconfig, or none with --kubernetes=false", c.base, err)
	}
	if status == http.StatusUnauthorized {
		return fmt.Errorf("the cluster at %s does not accept the credentials of the kubeconfig: log in again", c.base)
	}
	// Who may not look at namespaces may still be allowed to work in one.
	if status, err = c.status(ctx, "api", "v1", "namespaces", c.namespace); err == nil && status == http.StatusNotFound {
		return fmt.Errorf("the cluster at %s has no namespace %q: make it with 'kubectl create namespace %[2]s', or choose another with --namespace", c.base, c.namespace)
	}
	return nil
}

func (c *cluster) status(ctx context.Context, path ...string) (int, error) {
	response, err := c.get(ctx, nil, path...)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// get asks for something that is no object. The caller closes the body.
func (c *cluster) get(ctx context.Context, query url.Values, path ...string) (*http.Response, error) {
	u := c.base.JoinPath(path...)
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if address, ok := errors.AsType[*url.Error](err); ok {
		err = address.Err // the address is known
	}
	return response, err
}

// log returns what a container prints, or as an error what the API server
// says. The caller closes it.
func (c *cluster) log(ctx context.Context, namespace, pod string, query url.Values) (io.ReadCloser, error) {
	response, err := c.get(ctx, query, "api", "v1", "namespaces", namespace, "pods", pod, "log")
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		var said struct {
			Message string `json:"message"`
		}
		if err := json.NewDecoder(response.Body).Decode(&said); err != nil || strings.TrimSpace(said.Message) == "" {
			return nil, errors.New(response.Status)
		}
		return nil, errors.New(said.Message)
	}
	return response.Body, nil
}
