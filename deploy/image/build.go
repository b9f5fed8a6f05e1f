package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Build compiles the program of a package folder for an architecture, such
// that the same sources and the same Go make the same file: whatever the commit,
// the directory, and what the environment says of compiling. The Go tool must be
// on the PATH; root is the directory of go.work.
func Build(ctx context.Context, root, folder, arch, out string, diagnostics io.Writer) error {
	absolute, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", absolute, "./"+filepath.ToSlash(folder))
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch,
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off", "GOFLAGS=-mod=readonly", "GOWORK=")
	build.Stdout, build.Stderr = diagnostics, diagnostics
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", folder, arch, err)
	}
	return nil
}
