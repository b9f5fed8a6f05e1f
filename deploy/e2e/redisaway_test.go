//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// saidWithin is how long a caller waits to be told that Redis is away; the
// function may have to start first.
const saidWithin = 30 * time.Second

// redisAway takes Redis away. The light verbs say so, and when to ask again, and
// work when it is back.
func (f *stories) redisAway(ctx context.Context, t *testing.T) {
	t.Helper()
	f.scaleRedis(ctx, t, 0)
	clustertest.Eventually(t, 2*time.Minute, "Redis is away", func() error {
		_, err := f.Typed.CoreV1().Pods(f.namespace).Get(ctx, "redis-0", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("its pod is there"), err)
	})
	var group errgroup.Group
	for path, method := range map[string]string{
		"/challenge": http.MethodGet, "/challenge/" + f.challenge: http.MethodGet, "/instance?sourceId=0": http.MethodGet,
		"/instance/" + f.challenge + "/0": http.MethodGet, "/instance/" + f.challenge + "/4": http.MethodPatch,
	} {
		group.Go(func() error { return f.wantAway(ctx, method, path) })
	}
	check(t, group.Wait())
	f.scaleRedis(ctx, t, 1)
	_, instances := f.clients(t, "gateway")
	for _, told := range f.told {
		check(t, f.look(ctx, instances, told))
	}
}

func (f *stories) scaleRedis(ctx context.Context, t *testing.T, replicas int32) {
	t.Helper()
	sets := f.Typed.AppsV1().StatefulSets(f.namespace)
	scale, err := sets.GetScale(ctx, "redis", metav1.GetOptions{})
	check(t, err)
	scale.Spec.Replicas = replicas
	_, err = sets.UpdateScale(ctx, "redis", scale, metav1.UpdateOptions{})
	check(t, err)
}

// wantAway returns an error unless a caller is told to come again.
func (f *stories) wantAway(ctx context.Context, method, path string) error {
	ctx, cancel := context.WithTimeout(ctx, saidWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, f.url("gateway")+"/api/v1"+path, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	response, err := f.plain.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" ||
		!strings.Contains(string(body), `"UNAVAILABLE"`) {
		return fmt.Errorf("%s %s: %s, again after %q, %w: %s", method, path, response.Status, response.Header.Get("Retry-After"), err, body)
	}
	return nil
}
