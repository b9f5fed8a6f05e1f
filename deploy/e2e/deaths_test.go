//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// ownerLabel is on the ConfigMaps that own all objects of an instance.
const ownerLabel = "mayfly.dev/owner"

// identity finds the instance behind what players are told: the one whose
// Ingress serves it.
func (i *installation) identity(ctx context.Context, instance *instancev1.Instance) (string, error) {
	_, host, _ := strings.Cut(instance.GetConnectionInfo(), "//")
	list, err := i.Typed.NetworkingV1().Ingresses(i.namespace+"-instances").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list the Ingresses: %w", err)
	}
	for _, ingress := range list.Items {
		if of := ingress.Labels[kubernetes.LabelIdentity]; of != "" && serves(ingress, host) {
			return of, nil
		}
	}
	return "", fmt.Errorf("no Ingress of an instance serves %q", host)
}

func serves(ingress networkingv1.Ingress, host string) bool {
	return len(ingress.Spec.Rules) > 0 && ingress.Spec.Rules[0].Host == host
}

// isLeft returns an error if anything of an instance is left that players reach.
func (i *installation) isLeft(ctx context.Context, identity string) error {
	of := metav1.ListOptions{LabelSelector: kubernetes.LabelIdentity + "=" + identity}
	pods, podsErr := i.Typed.CoreV1().Pods(i.namespace+"-instances").List(ctx, of)
	ingresses, ingressesErr := i.Typed.NetworkingV1().Ingresses(i.namespace+"-instances").List(ctx, of)
	if err := errors.Join(podsErr, ingressesErr); err != nil {
		return fmt.Errorf("look what is left of %s: %w", identity, err)
	}
	if p, n := len(pods.Items), len(ingresses.Items); p+n > 0 {
		return fmt.Errorf("%s has %d pods and %d Ingresses, and no owner", identity, p, n)
	}
	return nil
}

// deaths are when instances were destroyed: from the first of their objects that
// was told to go until their owners, which go last, were gone.
type deaths struct {
	mu          sync.Mutex
	began, over map[string]time.Time
}

// watchDeaths looks on how the instances of a challenge go, until the test ends.
func (i *installation) watchDeaths(t *testing.T, challenge string) *deaths {
	t.Helper()
	d := &deaths{began: map[string]time.Time{}, over: map[string]time.Time{}}
	factory := informers.NewSharedInformerFactoryWithOptions(i.Typed, 0, informers.WithNamespace(i.namespace+"-instances"),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = kubernetes.LabelChallenge + "=" + challenge }))
	for _, kind := range []cache.SharedIndexInformer{
		factory.Core().V1().ConfigMaps().Informer(), factory.Core().V1().Services().Informer(),
		factory.Apps().V1().Deployments().Informer(), factory.Networking().V1().Ingresses().Informer(),
	} {
		_, err := kind.AddEventHandler(cache.ResourceEventHandlerFuncs{
			UpdateFunc: func(_, now any) { d.see(now, false) },
			DeleteFunc: func(was any) { d.see(was, true) },
		})
		check(t, err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	t.Cleanup(func() {
		close(stop)
		factory.Shutdown()
	})
	for kind, known := range factory.WaitForCacheSync(t.Context().Done()) {
		if !known {
			t.Fatalf("%v can't be watched", kind)
		}
	}
	return d
}

func (d *deaths) see(what any, gone bool) {
	if unseen, ok := what.(cache.DeletedFinalStateUnknown); ok {
		what = unseen.Obj
	}
	object, ok := what.(metav1.Object)
	if !ok || !gone && object.GetDeletionTimestamp() == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	identity := object.GetLabels()[kubernetes.LabelIdentity]
	if d.began[identity].IsZero() {
		d.began[identity] = time.Now()
	}
	if _, owner := object.GetLabels()[ownerLabel]; owner && gone {
		d.over[identity] = time.Now()
	}
}

// of is when destroying an instance began and was over, or zero if it was not.
func (d *deaths) of(identity string) (began, over time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began[identity], d.over[identity]
}
