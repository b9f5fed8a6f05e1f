// Package registry is an OCI registry on a directory of this machine, for
// laptops and tests. It asks for no credentials, so whoever serves it must
// decide who reaches it. It knows nothing of scenarios.
package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the driver that New names
	"github.com/sirupsen/logrus"
)

// New returns a handler that serves the registry kept in dir, which is made if
// it is missing. Deleting manifests and blobs is allowed. The registry's
// library logs through the process-wide logger of logrus, which New turns off.
// The handler works until ctx ends.
func New(ctx context.Context, dir string) (handler http.Handler, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the registry's directory: %w", err)
	}
	logrus.SetLevel(logrus.PanicLevel)
	// The library reports a bad configuration by a panic.
	defer func() {
		if r := recover(); r != nil {
			handler, err = nil, fmt.Errorf("start the registry in %s: %v", dir, r)
		}
	}()
	return handlers.NewApp(ctx, settings(dir)), nil
}

func settings(dir string) *configuration.Configuration {
	c := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": dir},
			"delete":     {"enabled": true},
			"redirect":   {"disable": true},
			// The purger's first run is up to an hour away and nothing could stop it.
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	c.HTTP.Secret = rand.Text() // signs the state of uploads, which end with the process
	c.Catalog.MaxEntries = 1000
	return c
}
