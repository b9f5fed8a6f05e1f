package scenario_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// prebuilt are the files of the smallest scenario.
var prebuilt = map[string]string{
	"Pulumi.yaml": "name: small\nruntime:\n  name: go\n  options:\n    binary: ./main\n",
	"main":        "#!/bin/sh\n",
}

// with returns prebuilt with further files.
func with(files map[string]string) map[string]string {
	all := maps.Clone(prebuilt)
	maps.Copy(all, files)
	return all
}

// startRegistry starts a registry behind the given middleware and returns its
// host:port.
func startRegistry(t *testing.T, middleware ...func(http.Handler) http.Handler) string {
	t.Helper()
	handler, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrap := range middleware {
		handler = wrap(handler)
	}
	return startServer(t, handler)
}

func startServer(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// plain reaches registries over plain HTTP, with no login of this machine's
// user.
func plain(t *testing.T) scenario.Registries {
	t.Helper()
	return scenario.Registries{
		Insecure:    true,
		Credentials: scenario.Credentials{DockerConfig: filepath.Join(t.TempDir(), "none.json")},
	}
}

func newLibrary(t *testing.T, o scenario.Options) *scenario.Library {
	t.Helper()
	if o.CacheDir == "" {
		o.CacheDir = t.TempDir()
	}
	if o.Registries.Credentials == (scenario.Credentials{}) {
		o.Registries.Credentials = plain(t).Credentials
	}
	o.Registries.Insecure = true
	l, err := scenario.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func writeDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func push(t *testing.T, reference string, files map[string]string) ctf.Scenario {
	t.Helper()
	s, err := scenario.Push(t.Context(), writeDir(t, files), reference, plain(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A layer is a part of an artifact that no honest client would push.
type layer struct {
	title       string // none if empty
	data        string
	annotations map[string]string
}

func layersOf(files map[string]string) []layer {
	var all []layer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all = append(all, layer{title: name, data: files[name]})
	}
	return all
}

// pushRaw pushes layers unchecked. edit may change the manifest.
func pushRaw(t *testing.T, reference string, layers []layer, edit func(*ocispec.Manifest)) ctf.Scenario {
	t.Helper()
	repo, err := remote.NewRepository(reference)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON}
	if _, err := oras.PushBytes(t.Context(), repo, m.Config.MediaType, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	pushed := map[string]ocispec.Descriptor{}
	for _, l := range layers {
		desc, ok := pushed[l.data]
		if !ok {
			var err error
			if desc, err = oras.PushBytes(t.Context(), repo, "application/octet-stream", []byte(l.data)); err != nil {
				t.Fatal(err)
			}
			pushed[l.data] = desc
		}
		desc.Annotations = maps.Clone(l.annotations)
		if l.title != "" {
			if desc.Annotations == nil {
				desc.Annotations = map[string]string{}
			}
			desc.Annotations[ocispec.AnnotationTitle] = l.title
		}
		m.Layers = append(m.Layers, desc)
	}
	if edit != nil {
		edit(&m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := oras.TagBytes(t.Context(), repo, m.MediaType, data, repo.Reference.Reference)
	if err != nil {
		t.Fatal(err)
	}
	return ctf.Scenario{Reference: reference, Digest: string(desc.Digest)}
}

func open(t *testing.T, l *scenario.Library, s ctf.Scenario) *scenario.Content {
	t.Helper()
	c, err := l.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func wantReason(t *testing.T, err error, reason ctf.Reason, kind ctf.Kind, words ...string) {
	t.Helper()
	if ctf.ReasonOf(err) != reason {
		t.Fatalf("error %v has reason %q, want %q", err, ctf.ReasonOf(err), reason)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if e, ok := errors.AsType[*ctf.Error](err); ok && e.Kind != kind {
		t.Errorf("error %v is of kind %q, want %q", err, e.Kind, kind)
	}
}

// entries lists what a cache holds, without locks.
func entries(t *testing.T, cacheDir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cacheDir, "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range found {
		if !strings.HasSuffix(path, ".lock") {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}

func numbered(host string, n int) string { return fmt.Sprintf("%s/s:%d", host, n) }

// pushIndex pushes an image index over one manifest of the same repository.
func pushIndex(t *testing.T, reference, child string) ctf.Scenario {
	t.Helper()
	repo, err := remote.NewRepository(reference)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	manifest, err := repo.Resolve(t.Context(), child)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest},
	})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := oras.TagBytes(t.Context(), repo, ocispec.MediaTypeImageIndex, data, repo.Reference.Reference)
	if err != nil {
		t.Fatal(err)
	}
	return ctf.Scenario{Reference: reference, Digest: string(desc.Digest)}
}
