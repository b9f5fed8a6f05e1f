//go:build cluster

package kubernetes_test

import (
	"os"

	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// openManifest describes what a manifest says, on the cluster of the tests.
func openManifest(dir string) (engine.Describe, error) {
	m, err := manifest.Load(dir)
	if err != nil {
		return nil, err
	}
	return m.Factory(manifest.Platform{Hostname: os.Getenv("MANIFEST_HOST")}).Describe, nil
}
