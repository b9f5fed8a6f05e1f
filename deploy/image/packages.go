package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// Mirror has the pinned packages as long as they are the newest of their
	// suite.
	Mirror = "https://deb.debian.org/debian"
	// Snapshot has them for good: it is the mirror as it was when they were.
	Snapshot = "https://snapshot.debian.org/archive/debian/20261122T000000Z"
	bundle   = "etc/ssl/certs/ca-certificates.crt"

	maxPackage = 64 << 20 // bytes
)

// A Package is a file of Debian's archive, pinned by what it holds.
type Package struct {
	Name, Version, Arch string
	// Path is where mirrors have it.
	Path, SHA256 string
}

// File is its name among the files of a mirror.
func (p Package) File() string { return path.Base(p.Path) }

// pinned are the packages that images are made from. Who changes them changes
// the time of [Snapshot]. They are of Debian 13, whose C
// library serves programs built with any older one.
func pinned() []Package {
	library := func(arch, sum string) Package {
		const version = "2.41-12+deb13u5"
		return Package{"libc6", version, arch, "pool/main/g/glibc/libc6_" + version + "_" + arch + ".deb", sum}
	}
	return []Package{
		library("amd64", "b59b0625cd1a791375d40dab23a4d5d3d0641e3d0a773501becdc3725b7f99cf"),
		library("arm64", "0966fc3da1a26cc57647c68b5736f791b6e7eb498173a7993f63b6c89b4ed4f5"),
		{"ca-certificates", "20250419+deb13u1", "all", "pool/main/c/ca-certificates/ca-certificates_20250419+deb13u1_all.deb",
			"c10585ac22c7f617a73d394eea29ba71d0356f350ae973b19043d1b017f80f54"},
	}
}

// Packages are those that images are made from, kept in a directory.
type Packages struct {
	byName map[string]Package
	dir    string
}

// Fetch has the packages that images for some architectures need in dir: what
// is there and as it should be stays, the rest comes from the first of the
// mirrors that has it. It may be called again.
func Fetch(ctx context.Context, dir string, mirrors, archs []string) (*Packages, error) {
	packages := &Packages{byName: map[string]Package{}, dir: dir}
	for _, p := range pinned() {
		if p.Arch != "all" && !slices.Contains(archs, p.Arch) {
			continue
		}
		if err := fetch(ctx, dir, mirrors, p); err != nil {
			return nil, fmt.Errorf("package %s: %w; another mirror can be given by --mirror", p.File(), err)
		}
		packages.byName[p.Name+"/"+p.Arch] = p
	}
	return packages, nil
}

func fetch(ctx context.Context, dir string, mirrors []string, p Package) error {
	file := filepath.Join(dir, p.File())
	if content, err := os.ReadFile(file); err == nil && sum(content) == p.SHA256 {
		return nil
	}
	content, err := first(ctx, mirrors, p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return replace(file, content)
}

// errGone says that a mirror has a package no more.
var errGone = errors.New("404 Not Found")

// first returns a package from the first mirror that has it. The error names
// every address that was tried.
func first(ctx context.Context, mirrors []string, p Package) ([]byte, error) {
	var failed error
	for _, mirror := range mirrors {
		address, err := url.JoinPath(mirror, p.Path)
		if err != nil {
			return nil, err
		}
		content, err := download(ctx, address)
		if got := sum(content); err == nil && got != p.SHA256 {
			err = fmt.Errorf("%s has the SHA-256 %s, want %s", address, got, p.SHA256)
		}
		if err == nil {
			return content, nil
		}
		if failed = errors.Join(failed, err); !errors.Is(err, errGone) {
			break
		}
	}
	return nil, failed
}

func download(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		if response.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%s: %w", address, errGone)
		}
		return nil, fmt.Errorf("%s answers %s", address, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxPackage))
}

// replace writes a file as a whole or not at all.
func replace(file string, content []byte) error {
	draft, err := os.CreateTemp(filepath.Dir(file), ".draft-")
	if err != nil {
		return err
	}
	_, err = draft.Write(content)
	if err = errors.Join(err, draft.Close()); err == nil {
		err = os.Rename(draft.Name(), file)
	}
	if err != nil {
		_ = os.Remove(draft.Name()) // the first error is the one to tell
	}
	return err
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// files returns what a package holds.
func (p *Packages) files(name, arch string) ([]File, error) {
	pkg, ok := p.byName[name+"/"+arch]
	if !ok {
		return nil, fmt.Errorf("no package %s for %s is pinned", name, arch)
	}
	content, err := os.ReadFile(filepath.Join(p.dir, pkg.File()))
	if err != nil {
		return nil, err
	}
	files, err := unpack(content)
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", pkg.File(), err)
	}
	return files, nil
}

// certificates returns the bundle of all authorities.
func (p *Packages) certificates() ([]File, error) {
	files, err := p.files("ca-certificates", "all")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var all bytes.Buffer
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".crt") {
			all.Write(bytes.TrimSpace(f.Content))
			all.WriteByte('\n')
		}
	}
	return []File{{Name: bundle, Mode: 0o644, Content: all.Bytes()}}, nil
}

// library returns the C library, its loader and its licence. Converters of
// character sets stay out: they are most of its size.
func (p *Packages) library(arch string) ([]File, error) {
	files, err := p.files("libc6", arch)
	if err != nil {
		return nil, err
	}
	kept := []File{
		{Name: "lib", Link: "usr/lib", Mode: 0o777},
		{Name: "lib64", Link: "usr/lib64", Mode: 0o777},
	}
	for _, f := range files {
		inside := strings.HasPrefix(f.Name, "usr/lib/") || strings.HasPrefix(f.Name, "usr/lib64/") ||
			f.Name == "usr/share/doc/libc6/copyright"
		if inside && !f.Directory && !strings.Contains(f.Name, "/gconv/") && !strings.Contains(f.Name, "/audit/") {
			kept = append(kept, f)
		}
	}
	return kept, nil
}
