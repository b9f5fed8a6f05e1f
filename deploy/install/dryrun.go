package install

import (
	"context"
	"errors"
)

// DryRun asks the API server, and the webhooks of Knative, whether they would
// take everything, and changes nothing. The namespaces and the
// service accounts must be there.
func (c *Cluster) DryRun(ctx context.Context, o Options) error {
	objects, err := Render(o)
	if err != nil {
		return err
	}
	var failed error
	for _, object := range objects {
		_, err := c.apply(ctx, object, true)
		failed = errors.Join(failed, err)
	}
	return failed
}
