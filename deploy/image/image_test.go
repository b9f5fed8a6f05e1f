package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mayfly-ctf/mayfly/deploy/image"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kept is the directory that builds keep packages in too.
func kept(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	check(t, err)
	return filepath.Join(cache, "mayfly", "packages")
}

func packages(t *testing.T) *image.Packages {
	t.Helper()
	mirror := image.Mirror
	if m := os.Getenv("MIRROR"); m != "" {
		mirror = m
	}
	p, err := image.Fetch(t.Context(), kept(t), []string{mirror, image.Snapshot}, []string{"amd64", "arm64"})
	check(t, err)
	return p
}

// build compiles this module's own command, which is a program like any.
func build(t *testing.T, arch string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	check(t, image.Build(t.Context(), "../..", "deploy/image/testdata/program", arch, file, io.Discard))
	return file
}

func digest(t *testing.T, i v1.Image) string {
	t.Helper()
	d, err := i.Digest()
	check(t, err)
	return d.String()
}

// contents returns the files of an image by name; a link's is where it points.
func contents(t *testing.T, i v1.Image) map[string]string {
	t.Helper()
	flat := mutate.Extract(i)
	defer flat.Close()
	files := map[string]string{}
	for r := tar.NewReader(flat); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		check(t, err)
		content, err := io.ReadAll(r)
		check(t, err)
		if header.Uid != 0 || header.ModTime.Unix() > 0 {
			t.Errorf("%s belongs to %d and is of %v", header.Name, header.Uid, header.ModTime)
		}
		files[strings.TrimSuffix(header.Name, "/")] = string(content) + header.Linkname
	}
}

// The same sources make the same image: built twice, in other directories.
func TestReproducible(t *testing.T) {
	t.Parallel()
	p := packages(t)
	for _, arch := range []string{"amd64", "arm64"} {
		var digests, lists []string
		for range 2 {
			plan := image.Plan{Name: "engine", Program: build(t, arch), Arch: arch, Libraries: true}
			packed, err := image.Pack(plan, p)
			check(t, err)
			list, err := image.List(plan, p)
			check(t, err)
			digests, lists = append(digests, digest(t, packed)), append(lists, string(list))
		}
		if digests[0] != digests[1] || lists[0] != lists[1] {
			t.Errorf("%s: two packs differ: %v", arch, digests)
		}
	}
}

func TestContents(t *testing.T) {
	t.Parallel()
	p := packages(t)
	program := build(t, "amd64")
	light, err := image.Pack(image.Plan{Name: "api", Program: program, Arch: "amd64", Arguments: []string{"serve"}}, p)
	check(t, err)
	files := contents(t, light)
	for _, name := range []string{"api", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "tmp"} {
		if _, ok := files[name]; !ok {
			t.Errorf("the light image has no %s", name)
		}
	}
	if n := strings.Count(files["etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE"); n < 100 {
		t.Errorf("there are %d authorities", n)
	}
	for name := range files {
		if strings.Contains(name, "libc.so") {
			t.Errorf("the light image has %s", name)
		}
	}
	config, err := light.ConfigFile()
	check(t, err)
	if c := config.Config; c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/api"}) || !slices.Equal(c.Cmd, []string{"serve"}) {
		t.Errorf("runs as %s, %v %v", c.User, c.Entrypoint, c.Cmd)
	}
	for arch, loader := range map[string][2]string{
		"amd64": {"usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"},
		"arm64": {"usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu/libc.so.6"},
	} {
		heavy, err := image.Pack(image.Plan{Name: "engine", Program: program, Arch: arch, Libraries: true}, p)
		check(t, err)
		files := contents(t, heavy)
		if files["lib"] != "usr/lib" || files[loader[0]] == "" {
			t.Errorf("%s: the loader is not where programs look for it", arch)
		}
		library, err := elf.NewFile(strings.NewReader(files[loader[1]]))
		if err != nil {
			t.Errorf("%s: %s: %v", arch, loader[1], err)
		} else if library.Machine != map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch] {
			t.Errorf("%s: the library is for %v", arch, library.Machine)
		}
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New())
	defer server.Close()
	to := image.Repository{Name: strings.TrimPrefix(server.URL, "http://") + "/path"}
	p := packages(t)
	images, lists := map[string]v1.Image{}, map[string][]byte{}
	for _, arch := range []string{"amd64", "arm64"} {
		plan := image.Plan{Name: "api", Program: build(t, arch), Arch: arch}
		var err error
		images[arch], err = image.Pack(plan, p)
		check(t, err)
		lists[arch], err = image.List(plan, p)
		check(t, err)
	}
	reference, err := to.Push(t.Context(), "api", "one", images)
	check(t, err)
	again, err := to.Push(t.Context(), "api", "two", images)
	check(t, err)
	if reference != again {
		t.Errorf("pushed twice it is %s and %s", reference, again)
	}
	parsed, err := name.ParseReference(reference)
	check(t, err)
	index, err := remote.Index(parsed)
	check(t, err)
	manifest, err := index.IndexManifest()
	check(t, err)
	if len(manifest.Manifests) != 2 {
		t.Errorf("%d architectures", len(manifest.Manifests))
	}
	check(t, to.Attach(t.Context(), "api", images[runtime.GOARCH], lists[runtime.GOARCH]))
	attached, err := remote.Referrers(parsed.Context().Digest(digest(t, images[runtime.GOARCH])))
	check(t, err)
	found, err := attached.IndexManifest()
	check(t, err)
	if len(found.Manifests) != 1 || found.Manifests[0].ArtifactType != "application/spdx+json" {
		t.Errorf("attached are %+v", found.Manifests)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	list, err := image.List(image.Plan{Name: "engine", Program: build(t, "amd64"), Arch: "amd64", Libraries: true}, packages(t))
	check(t, err)
	var parsed struct {
		SPDXVersion string
		Packages    []struct{ Name, VersionInfo string }
	}
	check(t, json.Unmarshal(list, &parsed))
	var names []string
	for _, p := range parsed.Packages {
		names = append(names, p.Name)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{"stdlib", "github.com/ulikunitz/xz", "libc6", "ca-certificates"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not among %s", want, all)
		}
	}
	if _, err := image.List(image.Plan{Name: "x", Program: "image_test.go"}, packages(t)); err == nil {
		t.Error("a list was made of a file that is no program")
	}
}

// A mirror that has something else, or nothing, is refused, and nothing is kept.
func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	mirror := httptest.NewServer(http.FileServer(http.Dir(root)))
	defer mirror.Close()
	dir := filepath.Join(t.TempDir(), "kept")
	_, err := image.Fetch(t.Context(), dir, []string{mirror.URL}, []string{"amd64"})
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("nothing is there: %v", err)
	}
	other := filepath.Join(root, "pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb")
	check(t, os.MkdirAll(filepath.Dir(other), 0o755))
	check(t, os.WriteFile(other, []byte("other"), 0o600))
	_, err = image.Fetch(t.Context(), dir, []string{mirror.URL}, []string{"amd64"})
	if err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("something else is there: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is kept", left)
	}
}

// What is kept is taken from there, and what is broken there is fetched again.
func TestFetch(t *testing.T) {
	t.Parallel()
	packages(t)
	root, dir := t.TempDir(), t.TempDir()
	for _, file := range []string{"g/glibc/libc6_2.41-12+deb13u5_amd64.deb", "c/ca-certificates/ca-certificates_20250419+deb13u1_all.deb"} {
		content, err := os.ReadFile(filepath.Join(kept(t), filepath.Base(file)))
		check(t, err)
		to := filepath.Join(root, "pool/main", file)
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		check(t, os.WriteFile(to, content, 0o600))
	}
	mirror := httptest.NewServer(http.FileServer(http.Dir(root)))
	_, err := image.Fetch(t.Context(), dir, []string{mirror.URL}, []string{"amd64"})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "ca-certificates_20250419+deb13u1_all.deb"), []byte("cut"), 0o600))
	_, err = image.Fetch(t.Context(), dir, []string{mirror.URL}, []string{"amd64"})
	check(t, err)
	mirror.Close()
	_, err = image.Fetch(context.Background(), dir, []string{mirror.URL}, []string{"amd64"})
	check(t, err)
}

// What a mirror has no more comes from its archive; what neither has is an error
// that names both, and a mirror that fails otherwise is not passed over.
func TestFetchFromTheArchive(t *testing.T) {
	t.Parallel()
	packages(t)
	var asked []string
	status := http.StatusNotFound
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.WriteHeader(status)
	}))
	defer mirror.Close()
	archive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(kept(t), filepath.Base(r.URL.Path)))
	}))
	dir, both := t.TempDir(), []string{mirror.URL, archive.URL + "/20261122T000000Z"}
	_, err := image.Fetch(t.Context(), dir, both, []string{"amd64"})
	check(t, err)
	if len(asked) != 2 {
		t.Errorf("the mirror was asked for %v", asked)
	}
	archive.Config.Handler = http.NotFoundHandler()
	_, err = image.Fetch(t.Context(), t.TempDir(), both, []string{"amd64"})
	for _, address := range both {
		if err == nil || !strings.Contains(err.Error(), address+"/pool/main/") {
			t.Errorf("%s is not in: %v", address, err)
		}
	}
	status = http.StatusForbidden
	_, err = image.Fetch(t.Context(), t.TempDir(), both, []string{"amd64"})
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), archive.URL) {
		t.Errorf("a mirror that refuses: %v", err)
	}
	archive.Close()
}

func TestFromMachine(t *testing.T) {
	t.Parallel()
	program, libraries, err := image.FromMachine(t.Context(), "redis-server")
	check(t, err)
	packed, err := image.Pack(image.Plan{Name: "redis-server", Program: program, Arch: runtime.GOARCH, Extra: libraries}, packages(t))
	check(t, err)
	files := contents(t, packed)
	if len(libraries) < 2 || !bytes.HasPrefix([]byte(files[libraries[0].Name]), []byte("\x7fELF")) {
		t.Errorf("%d libraries", len(libraries))
	}
	if _, _, err := image.FromMachine(t.Context(), "no-such-program"); err == nil {
		t.Error("a program that is not there was packed")
	}
}
