package install

import (
	"context"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Down removes all that Up made, all state, and every instance in the
// namespace of instances, and returns when it is gone. It may be called again,
// and when nothing is there.
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
	for _, id := range leaving {
		fmt.Fprintf(out, "deleting %s\n", id)
		if err := c.remove(ctx, id); err != nil {
			return err
		}
	}
	return c.awaitGone(ctx, leaving, out)
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
		if err := sleep(ctx, look); err != nil {
			return fmt.Errorf("%w; still there: %s", err, strings.Join(left, ", "))
		}
	}
}
