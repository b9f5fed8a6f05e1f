package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// callTimeout bounds one request; webhooks may take 30 seconds.
	callTimeout = 35 * time.Second
	// outage is how long an API server may be away before a call fails.
	outage = time.Minute
	// A call that is repeated waits before, each time longer.
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
	// maxAnswer bounds what is read of an answer that is not an object.
	maxAnswer = 4 << 20
)

// ErrNoCluster says that nothing tells how to reach a cluster.
var ErrNoCluster = errors.New("no cluster: not in a pod, and no kubeconfig")

// A Cluster is a connection to an API server. One serves all providers of a
// process; it is safe for concurrent use.
type Cluster struct {
	objects   dynamic.Interface
	http      *http.Client
	base      *url.URL
	namespace string
	builtin   map[groupKind]kind

	mu     sync.Mutex
	custom map[schema.GroupVersionKind]kind
}

// Connect returns a connection to the cluster that [Config] finds, with its
// errors. It sends nothing.
func Connect(kubeconfig string) (*Cluster, error) {
	config, namespace, err := Config(kubeconfig)
	if err != nil {
		return nil, err
	}
	return newCluster(config, namespace)
}

// Config returns how to connect to a cluster, and the namespace to work in, as
// a kubeconfig says: the file that is named, else those of KUBECONFIG or the
// home directory, else, in a pod, as its service account. It returns
// [ErrNoCluster] if there is none of these. Requests are not limited: the API
// server has limits of its own.
func Config(kubeconfig string) (config *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	config, err = loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, "", ErrNoCluster
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	namespace, _, err = loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1
	config.UserAgent = "mayfly"
	config.WarningHandlerWithContext = rest.NoWarnings{}
	return config, namespace, nil
}

func newCluster(config *rest.Config, namespace string) (*Cluster, error) {
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
	return &Cluster{
		objects: objects, http: client, base: base, namespace: namespace,
		builtin: builtinKinds(), custom: map[schema.GroupVersionKind]kind{},
	}, nil
}

// at returns where objects of a kind are, in a namespace if they have one.
func (c *Cluster) at(k kind, namespace string) dynamic.ResourceInterface {
	if k.namespaced {
		return c.objects.Resource(k.resource()).Namespace(namespace)
	}
	return c.objects.Resource(k.resource())
}

// try repeats a call while the API server is away or asks to come again, for a
// minute at most. The call must be one that may be repeated.
func (c *Cluster) try(ctx context.Context, call func(context.Context) error) error {
	began, pause := time.Now(), firstPause
	for {
		attempt, cancel := context.WithTimeout(ctx, callTimeout)
		err := call(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || !isTransient(err) || time.Since(began) > outage {
			return because(ctx, err)
		}
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			pause = max(pause, time.Duration(seconds)*time.Second)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// because returns why the context ended, if that is why the call failed.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func isTransient(err error) bool {
	if apierrors.IsInternalError(err) && strings.Contains(err.Error(), "typed patch object") {
		return false // so the API server says that a field is unknown
	}
	// The API server knows the token of a pod no more once the pod was deleted by
	// force. Its process, which is about to be killed, must not take that for a
	// fault of the scenario and record it.
	return apierrors.IsUnauthorized(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		utilnet.IsTimeout(err) || utilnet.IsHTTP2ConnectionLost(err) || brokeOff(err)
}

// brokeOff tells whether the answer ended in the middle, as client-go says it, or
// before it began.
func brokeOff(err error) bool {
	_, ended := errors.AsType[http2.StreamError](err)
	return ended || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reading response body") &&
		strings.Contains(err.Error(), "Please retry")
}

// text asks for something that is no object: a log, a list of kinds.
func (c *Cluster) text(ctx context.Context, path string, query url.Values) ([]byte, error) {
	var body []byte
	err := c.try(ctx, func(ctx context.Context) error {
		u := c.base.JoinPath(path)
		u.RawQuery = query.Encode()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return err
		}
		response, err := c.http.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return apierrors.NewGenericServerResponse(
				response.StatusCode, "get", schema.GroupResource{}, path, string(body), 0, true)
		}
		return nil
	})
	return body, err
}

// lookUp asks the cluster for a kind that is not built in, once.
func (c *Cluster) lookUp(ctx context.Context, gvk schema.GroupVersionKind) (kind, error) {
	c.mu.Lock()
	known, ok := c.custom[gvk]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	path := "/apis/" + gvk.GroupVersion().String()
	if gvk.Group == "" {
		path = "/api/" + gvk.Version
	}
	body, err := c.text(ctx, path, nil)
	if err != nil && !apierrors.IsNotFound(err) {
		return kind{}, fmt.Errorf("look up the kind %s: %w", gvk.Kind, err)
	}
	var list struct {
		Resources []struct {
			Name       string `json:"name"`
			Kind       string `json:"kind"`
			Namespaced bool   `json:"namespaced"`
		} `json:"resources"`
	}
	if err == nil {
		if err := json.Unmarshal(body, &list); err != nil {
			return kind{}, fmt.Errorf("look up the kind %s: %w", gvk.Kind, err)
		}
	}
	for _, r := range list.Resources {
		// Others are parts of objects, as deployments/scale, or lead elsewhere in a path.
		if r.Kind == gvk.Kind && len(validation.IsDNS1035Label(r.Name)) == 0 {
			k := kind{GroupVersionKind: gvk, plural: r.Name, namespaced: r.Namespaced, custom: true}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.custom[gvk] = k
			return k, nil
		}
	}
	return kind{}, &unknownKindError{gvk}
}

// An unknownKindError says that the cluster does not have the kind.
type unknownKindError struct{ gvk schema.GroupVersionKind }

func (e *unknownKindError) Error() string {
	return fmt.Sprintf("the cluster has no kind %s in %s", e.gvk.Kind, e.gvk.GroupVersion())
}
