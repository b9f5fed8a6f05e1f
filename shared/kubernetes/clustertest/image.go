package clustertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
)

// nobody is who the programs of images run as.
const nobody = "65532:65532"

// Program compiles the Go program in a directory, static.
func Program(tb testing.TB, dir string) []byte {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "program")
	build := exec.CommandContext(tb.Context(), "go", "build", "-ldflags", "-s -w", "-o", out, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off") // it may be a module of its own
	if text, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", dir, err, text)
	}
	program, err := os.ReadFile(out)
	check(tb, err)
	return program
}

// Image pushes an image that holds these files, runs /program and nothing else,
// and returns its reference by digest.
func Image(tb testing.TB, name string, files map[string][]byte) string {
	tb.Helper()
	plain, packed := layer(tb, files)
	config := ocispec.Image{
		Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/program"}, User: nobody},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}},
	}
	reference := Registry(tb) + "/" + path.Join("mayfly-test", name)
	repository, err := remote.NewRepository(reference)
	check(tb, err)
	repository.PlainHTTP = true
	push := func(mediaType string, content []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
		check(tb, repository.Push(tb.Context(), d, bytes.NewReader(content)))
		return d
	}
	manifest := push(ocispec.MediaTypeImageManifest, document(tb, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    push(ocispec.MediaTypeImageConfig, document(tb, config)),
		Layers:    []ocispec.Descriptor{push(ocispec.MediaTypeImageLayerGzip, packed)},
	}))
	return reference + "@" + manifest.Digest.String()
}

func layer(tb testing.TB, files map[string][]byte) (plain, packed []byte) {
	tb.Helper()
	var tape, out bytes.Buffer
	archive := tar.NewWriter(&tape)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		check(tb, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}))
		_, err := archive.Write(files[name])
		check(tb, err)
	}
	check(tb, archive.Close())
	press := gzip.NewWriter(&out)
	_, err := press.Write(tape.Bytes())
	check(tb, err)
	check(tb, press.Close())
	return tape.Bytes(), out.Bytes()
}

func document(tb testing.TB, of any) []byte {
	tb.Helper()
	text, err := json.Marshal(of)
	check(tb, err)
	return text
}
