package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

const (
	// activator is what wakes functions. It is reached through the API server,
	// because functions have no address outside of the cluster.
	activator = "api/v1/namespaces/knative-serving/services/http:activator-service:80/proxy"
	// answerLimit bounds one try: a cold start.
	answerLimit = 30 * time.Second
	// atOnce is how many functions are started in parallel.
	atOnce = 4
)

// answers returns when every function has said that it works: it runs, finds
// its settings and reaches Redis.
func (c *Cluster) answers(ctx context.Context, objects []*unstructured.Unstructured, out io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, object := range objects {
		if !isFunction(object) {
			continue
		}
		group.Go(func() error {
			began := time.Now()
			if err := c.answer(ctx, identify(object)); err != nil {
				return fmt.Errorf("function %s does not answer: %w", object.GetName(), err)
			}
			fmt.Fprintf(out, "answers  %s, after %s\n", object.GetName(), timeSince(began))
			return nil
		})
	}
	return group.Wait()
}

func (c *Cluster) answer(ctx context.Context, id identity) error {
	for {
		err := c.ask(ctx, id)
		if err == nil {
			return nil
		}
		if ended := pause(ctx); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

func (c *Cluster) ask(ctx context.Context, id identity) error {
	var function servingv1.Service
	if err := c.read(ctx, id, &function); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath(activator, "healthcheck").String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Knative-Serving-Namespace", id.Namespace)
	request.Header.Set("Knative-Serving-Revision", function.Status.LatestReadyRevisionName)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // the status alone says enough
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
