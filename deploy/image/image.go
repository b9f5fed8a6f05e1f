// Package image packs programs into container images and pushes them, without
// a container engine. The same sources make the same digests on any machine:
// what is packed besides programs is pinned, times are fixed, and files are
// sorted. It knows nothing of what the programs do.
package image

import (
	"fmt"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User is the id of the user and of the group that images run as.
const User = 65532

// A Plan is what goes into an image.
type Plan struct {
	// Program is the file to run, with no library of its own, or with those of
	// Libraries. Its name in the image is Name, at the root.
	Name, Program string
	// Arguments are those that the program gets if it is given no others.
	Arguments []string
	// Arch is as GOARCH names it.
	Arch string
	// Libraries also packs the C library and its loader, for programs that are
	// not the image's own.
	Libraries bool
	// Extra are further files.
	Extra []File
}

// Pack makes the image of a plan. Equal files make equal digests.
func Pack(p Plan, packages *Packages) (v1.Image, error) {
	base, err := packages.certificates()
	if err != nil {
		return nil, err
	}
	layers := [][]File{append(base, accounts()...)}
	if p.Libraries {
		library, err := packages.library(p.Arch)
		if err != nil {
			return nil, err
		}
		layers = append(layers, library)
	}
	if len(p.Extra) > 0 {
		layers = append(layers, p.Extra)
	}
	layers = append(layers, []File{{Name: p.Name, Mode: 0o755, Source: p.Program}})

	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, files := range layers {
		layer, err := newLayer(files)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", p.Name, err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, fmt.Errorf("pack %s: %w", p.Name, err)
		}
	}
	return configure(image, p)
}

// accounts are the files that a program expects of a system.
func accounts() []File {
	user := fmt.Sprint(User)
	return []File{
		{Name: "etc/passwd", Mode: 0o644, Content: []byte("nonroot:x:" + user + ":" + user + "::/tmp:/sbin/nologin\n")},
		{Name: "etc/group", Mode: 0o644, Content: []byte("nonroot:x:" + user + ":\n")},
		{Name: "etc/nsswitch.conf", Mode: 0o644, Content: []byte("hosts: files dns\n")},
		{Name: "tmp", Mode: 0o1777, Directory: true},
	}
}

func configure(image v1.Image, p Plan) (v1.Image, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", p.Name, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", p.Arch
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + p.Name},
		Cmd:        p.Arguments,
		User:       fmt.Sprintf("%d:%d", User, User),
		WorkingDir: "/tmp",
		Env:        []string{"PATH=/", "HOME=/tmp", "SSL_CERT_FILE=/" + bundle},
		Labels: map[string]string{
			"org.opencontainers.image.title":  path.Base(p.Name),
			"org.opencontainers.image.source": "https://github.com/mayfly-ctf/mayfly",
		},
	}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", p.Name, err)
	}
	return image, nil
}
