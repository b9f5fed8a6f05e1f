package registry_test

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// open serves the registry in dir and returns a repository of it.
func open(t *testing.T, dir string) *remote.Repository {
	t.Helper()
	handler, err := registry.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	repo, err := remote.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/team/web")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	return repo
}

func TestRegistryKeepsWhatWasPushed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "New")
	first := open(t, dir)
	blob, err := oras.PushBytes(t.Context(), first, "text/plain", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := oras.PackManifest(t.Context(), first, oras.PackManifestVersion1_1, "text/x", oras.PackManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Tag(t.Context(), packed, "1"); err != nil {
		t.Fatal(err)
	}

	second := open(t, dir)
	found, err := second.Resolve(t.Context(), "1")
	if err != nil || found.Digest != packed.Digest {
		t.Errorf("after a restart the tag means %s (%v), want %s", found.Digest, err, packed.Digest)
	}
	if err := second.Blobs().Delete(t.Context(), blob); err != nil {
		t.Error(err)
	}
	if err := second.Delete(t.Context(), found); err != nil {
		t.Error(err)
	}
	if _, err := second.Resolve(t.Context(), "1"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("a deleted manifest is found: %v", err)
	}
}

func TestNewNeedsADirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.New(t.Context(), filepath.Join(file, "registry")); err == nil {
		t.Error("no error")
	}
}
