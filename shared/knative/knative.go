// Package knative switches the fast tick, which on a cluster is a PingSource:
// it always exists, and turning it on and off changes its schedule alone, so
// that the right to patch this one object is enough. It knows Knative's types
// and the API server, and nothing of what is due when.
package knative

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis/duck"
)

// The schedules of the fast tick, in PingSource's cron with seconds. Off is
// once a year, since a schedule that never fires does not exist.
const (
	ScheduleOn  = "*/10 * * * * *"
	ScheduleOff = "0 0 1 1 *"
)

const (
	// callTimeout bounds one request; Knative's webhook may take 10 seconds.
	callTimeout = 12 * time.Second
	// fieldManager is under which name the schedule is ours.
	fieldManager = "mayfly-tick"
)

// A Tick is a PingSource as the fast tick, see [ctf.Tick]. It is safe for
// concurrent use.
type Tick struct {
	client          rest.Interface
	namespace, name string
}

// NewTick returns the tick that is the PingSource of that name. It sends
// nothing.
func NewTick(config *rest.Config, namespace, name string) (*Tick, error) {
	known := runtime.NewScheme()
	if err := sourcesv1.AddToScheme(known); err != nil {
		return nil, fmt.Errorf("describe PingSources: %w", err)
	}
	metav1.AddToGroupVersion(known, schema.GroupVersion{Version: "v1"}) // answers that are errors
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/apis", &sourcesv1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	config.UserAgent = "mayfly"
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &Tick{client: client, namespace: namespace, name: name}, nil
}

// On has the tick come every ten seconds, the first within about ten. It may be
// called again, and tries for some seconds while the API server is away.
func (t *Tick) On(ctx context.Context) error { return t.schedule(ctx, ScheduleOn) }

// Off has the tick come no more; one or two may still be under way. It may be
// called again, and tries for some seconds while the API server is away.
func (t *Tick) Off(ctx context.Context) error { return t.schedule(ctx, ScheduleOff) }

func (t *Tick) schedule(ctx context.Context, schedule string) error {
	patch, err := duck.CreateMergePatch(
		&sourcesv1.PingSource{}, &sourcesv1.PingSource{Spec: sourcesv1.PingSourceSpec{Schedule: schedule}})
	if err != nil {
		return fmt.Errorf("describe the schedule %q: %w", schedule, err)
	}
	var last error
	// About six seconds of waiting in all.
	patience := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 7}
	err = wait.ExponentialBackoffWithContext(ctx, patience, func(ctx context.Context) (bool, error) {
		last = t.patch(ctx, patch, schedule)
		if isTransient(last) {
			return false, nil
		}
		return true, last
	})
	if err != nil && last != nil {
		err = last // rather than that it took too long
	}
	if err != nil {
		return fmt.Errorf("set the schedule of PingSource %s/%s: %w%s", t.namespace, t.name, err, hint(err))
	}
	return nil
}

func (t *Tick) patch(ctx context.Context, patch []byte, schedule string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var now sourcesv1.PingSource
	err := t.client.Patch(types.MergePatchType).
		Namespace(t.namespace).Resource("pingsources").Name(t.name).
		Param("fieldManager", fieldManager).
		Body(patch).Do(ctx).Into(&now)
	if err == nil && now.Spec.Schedule != schedule {
		return fmt.Errorf("something on the cluster made it %q", now.Spec.Schedule)
	}
	return err
}

// hint is what to do about an error that a person must look at.
func hint(err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return "; apply config/base/events again"
	case apierrors.IsForbidden(err):
		return "; allow the service account to patch it, as config/base/access does"
	}
	return ""
}

func isTransient(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsConflict(err) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		utilnet.IsTimeout(err) || utilnet.IsHTTP2ConnectionLost(err)
}
