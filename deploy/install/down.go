package install

import (
	"context"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Down removes all that Up made, all state, and every instance in the
// namespace of instances, and returns when it is gone. Functions end their work
// first. It may be called again, and when nothing is there.
func (c *Cluster) Down(ctx context.Context, o Options, out io.Writer) error {
	ids, err := c.remembered(ctx, o.namespace())
	if err != nil {
		return err
	}
	space := schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	for _, name := range []string{o.namespace(), o.namespace() + instancesSuffix} {
		namespace := []identity{{space, "", name}}
		ids = append(without(ids, namespace), namespace...)
	}
	var leaving []identity // what has no namespace takes all else with it
	for _, id := range ids {
		if id.Namespace != "" {
			continue
		}
		live, err := c.get(ctx, id)
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return fmt.Errorf("look at %s: %w", id, err)
		case live.GetLabels()[labelPartOf] != partOf:
			return fmt.Errorf("%s is not Mayfly's: it stays, and all else too", id)
		}
		leaving = append(leaving, id)
	}
	if len(leaving) == 0 {
		fmt.Fprintln(out, "nothing is left")
		return nil
	}
	if err := c.stop(ctx, o.namespace(), ids, out); err != nil {
		return err
	}
	for _, id := range leaving {
		fmt.Fprintf(out, "deleting %s\n", id)
		if err := c.remove(ctx, id); err != nil {
			return err
		}
	}
	return c.awaitGone(ctx, leaving, out)
}

// stop removes events, then functions, and Redis when the last of them has
// ended its work. A namespace that is deleted with pods in it would take away
// what they need, and is looked at again only after half of their grace.
func (c *Cluster) stop(ctx context.Context, namespace string, ids []identity, out io.Writer) error {
	for _, step := range []struct {
		stage      int
		what, pods string
	}{{lastStage, "events", ""}, {3, "functions", "function"}, {2, "redis", "redis"}} {
		fmt.Fprintf(out, "stopping %s\n", step.what)
		for _, id := range ids {
			if stageOf(id.GroupKind()) != step.stage {
				continue
			}
			if err := c.remove(ctx, id); err != nil {
				return err
			}
		}
		if step.pods == "" {
			continue
		}
		if err := c.awaitNoPods(ctx, namespace, "app.kubernetes.io/component="+step.pods); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) awaitNoPods(ctx context.Context, namespace, selector string) error {
	at, err := c.at(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, namespace)
	if err != nil {
		return err
	}
	for {
		pods, err := at.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		if len(pods.Items) == 0 {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%w; %d pods have not ended their work, as %s", err, len(pods.Items), pods.Items[0].GetName())
		}
	}
}

func (c *Cluster) awaitGone(ctx context.Context, ids []identity, out io.Writer) error {
	for {
		var left []string
		for _, id := range ids {
			_, err := c.get(ctx, id)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return ended(ctx, err, []string{id.String()})
			}
			left = append(left, id.String())
		}
		if len(left) == 0 {
			fmt.Fprintln(out, "nothing is left")
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%w; still there: %s", err, strings.Join(left, ", "))
		}
	}
}
