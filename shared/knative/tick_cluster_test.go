//go:build cluster

package knative_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

var _ ctf.Tick = (*knative.Tick)(nil)

const (
	name = "expire"
	// patience is how long Knative may take to start or stop a clock.
	patience = time.Minute
)

// A site is a namespace with a PingSource and a sink that counts.
type site struct {
	*clustertest.Cluster
	t         *testing.T
	namespace string
}

func newSite(t *testing.T) *site {
	t.Helper()
	c := clustertest.New(t)
	s := &site{c, t, c.Namespace()}
	image := clustertest.Image(t, "sink", map[string][]byte{"program": clustertest.Program(t, "testdata/sink")})
	labels := map[string]string{"app": "sink"}
	_, err := c.Typed.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "sink", Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "sink", Image: image}}},
	}, metav1.CreateOptions{})
	check(t, err)
	_, err = c.Typed.CoreV1().Services(s.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "sink"},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{
			{Port: 80, TargetPort: intstr.FromInt32(8080)},
		}},
	}, metav1.CreateOptions{})
	check(t, err)
	s.source(knative.ScheduleOff)
	return s
}

func (s *site) sources() dynamic.ResourceInterface {
	return s.Objects.Resource(sourcesv1.SchemeGroupVersion.WithResource("pingsources")).Namespace(s.namespace)
}

// source makes the PingSource.
func (s *site) source(schedule string) {
	s.t.Helper()
	ping := &sourcesv1.PingSource{
		TypeMeta:   metav1.TypeMeta{APIVersion: "sources.knative.dev/v1", Kind: "PingSource"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kept": "yes"}},
		Spec: sourcesv1.PingSourceSpec{
			Schedule:   schedule,
			SourceSpec: duckv1.SourceSpec{Sink: duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "sink"}}},
		},
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ping)
	check(s.t, err)
	_, err = s.sources().Create(s.t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	check(s.t, err)
}

func (s *site) read() sourcesv1.PingSource {
	s.t.Helper()
	object, err := s.sources().Get(s.t.Context(), name, metav1.GetOptions{})
	check(s.t, err)
	var ping sourcesv1.PingSource
	check(s.t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &ping))
	return ping
}

// ticks is how many the sink got.
func (s *site) ticks() (int, error) {
	body, err := s.Typed.CoreV1().Services(s.namespace).ProxyGet("http", "sink", "80", "/", nil).DoRaw(s.t.Context())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(body))
}

// tick connects as a service account that may patch the one PingSource, if
// allowed, and nothing else.
func (s *site) tick(allowed bool) *knative.Tick {
	s.t.Helper()
	ctx, account := s.t.Context(), "engine-"+strconv.FormatBool(allowed)
	_, err := s.Typed.CoreV1().ServiceAccounts(s.namespace).Create(ctx,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	check(s.t, err)
	if allowed {
		_, err = s.Typed.RbacV1().Roles(s.namespace).Create(ctx, &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: account},
			Rules: []rbacv1.PolicyRule{{
				APIGroups: []string{"sources.knative.dev"}, Resources: []string{"pingsources"},
				ResourceNames: []string{name}, Verbs: []string{"patch"},
			}},
		}, metav1.CreateOptions{})
		check(s.t, err)
		_, err = s.Typed.RbacV1().RoleBindings(s.namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: s.namespace}},
			RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: account},
		}, metav1.CreateOptions{})
		check(s.t, err)
	}
	config := rest.CopyConfig(s.Config)
	config.Impersonate.UserName = "system:serviceaccount:" + s.namespace + ":" + account
	tick, err := knative.NewTick(config, s.namespace, name)
	check(s.t, err)
	return tick
}

func TestTickOnAndOff(t *testing.T) {
	s := newSite(t)
	tick := s.tick(true)
	clustertest.Eventually(t, 2*patience, "the clock and its sink are ready", func() error {
		if ping := s.read(); !ping.Status.IsReady() {
			return fmt.Errorf("the PingSource is not ready: %v", ping.Status.Conditions)
		}
		_, err := s.ticks()
		return err
	})
	before := s.read()
	for range 2 { // it may be repeated
		began := time.Now()
		check(t, tick.On(t.Context()))
		t.Logf("turned on in %v", time.Since(began).Round(time.Millisecond))
	}
	began := time.Now()
	var first time.Time
	seen := 0
	clustertest.Eventually(t, 2*patience, "three more ticks", func() error {
		n, err := s.ticks()
		if n > 0 && first.IsZero() {
			first, seen = time.Now(), n
			t.Logf("the first tick after %v", first.Sub(began).Round(100*time.Millisecond))
		}
		if err == nil && (n == 0 || n < seen+3) {
			err = fmt.Errorf("%d ticks", n)
		}
		return err
	})
	if took := time.Since(first); took < 24*time.Second || took > 40*time.Second {
		t.Errorf("three more ticks took %v, want 30 s", took)
	}

	check(t, tick.Off(t.Context()))
	check(t, tick.Off(t.Context()))
	after := s.read()
	if d := cmp.Diff(before.Spec, after.Spec); d != "" || after.Labels["kept"] != "yes" {
		t.Errorf("turning it on and off changed more than the schedule: %s %v", d, after.Labels)
	}
	s.wantQuiet()
}

// wantQuiet waits for the ticks that are under way, and then for three periods
// without any.
func (s *site) wantQuiet() {
	s.t.Helper()
	last, since := -1, time.Now()
	clustertest.Eventually(s.t, 2*patience, "no tick for 31 s", func() error {
		n, err := s.ticks()
		if err != nil {
			return err
		}
		if n != last {
			last, since = n, time.Now()
		}
		if quiet := time.Since(since); quiet < 31*time.Second {
			return fmt.Errorf("quiet for %v", quiet)
		}
		return nil
	})
	s.t.Logf("%d ticks in all", last)
}

func TestTickRefused(t *testing.T) {
	s := newSite(t)
	for what, tick := range map[string]*knative.Tick{"forbidden": s.tick(false), "not found": s.other()} {
		began := time.Now()
		err := tick.On(t.Context())
		if err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", what, err, time.Since(began))
		}
		t.Log(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := s.tick(true).On(ctx); err == nil {
		t.Error("a call that was given up succeeds")
	}
}

// other is a PingSource that is not there.
func (s *site) other() *knative.Tick {
	tick, err := knative.NewTick(s.Config, s.namespace, "other")
	check(s.t, err)
	return tick
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
