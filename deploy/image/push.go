package image

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A Repository is where images go: a registry and a path, as
// registry.example/mayfly. The credentials are those of docker's
// configuration.
type Repository struct {
	Name string
	// Insecure speaks plain HTTP, which private addresses get anyway.
	Insecure bool
}

func (r Repository) tag(image, tag string) (name.Tag, error) {
	var options []name.Option
	if r.Insecure {
		options = append(options, name.Insecure)
	}
	parsed, err := name.NewTag(r.Name+"/"+image+":"+tag, options...)
	if err != nil {
		return parsed, fmt.Errorf("registry %q: %w", r.Name, err)
	}
	return parsed, nil
}

// Push stores an image for one or, under a common index, more architectures,
// and returns its reference by digest. What is there already is not sent again.
func (r Repository) Push(ctx context.Context, image, tag string, byArch map[string]v1.Image) (string, error) {
	to, err := r.tag(image, tag)
	if err != nil {
		return "", err
	}
	var digest v1.Hash
	if len(byArch) == 1 {
		for _, only := range byArch {
			digest, err = push(ctx, to, only)
		}
	} else {
		digest, err = pushIndex(ctx, to, byArch)
	}
	if err != nil {
		return "", fmt.Errorf("push %s: %w", to, err)
	}
	return to.Context().Digest(digest.String()).String(), nil
}

func push(ctx context.Context, to name.Tag, image v1.Image) (v1.Hash, error) {
	if err := remote.Write(to, image, options(ctx)...); err != nil {
		return v1.Hash{}, err
	}
	return image.Digest()
}

func pushIndex(ctx context.Context, to name.Tag, byArch map[string]v1.Image) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        byArch[arch],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := remote.WriteIndex(to, index, options(ctx)...); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

func options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}
