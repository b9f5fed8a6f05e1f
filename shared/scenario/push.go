package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The types of a scenario artifact; who fetches one does not look at them.
const (
	ArtifactType  = "application/vnd.ctfer-io.scenario"
	FileMediaType = "application/vnd.ctfer-io.file"
)

const pushTimeout = 10 * time.Minute

// Push packs every regular file below dir, .git excepted, into a scenario
// artifact and tags it as reference says: registry/repository:tag. Equal
// directories give equal digests. What is no scenario, or has symbolic links,
// is a ScenarioMismatch error and sends nothing; trouble with the registry is
// an OCI* error.
func Push(ctx context.Context, dir, reference string, how Registries) (ctf.Scenario, error) {
	parsed, err := parseReference(reference)
	if err == nil && (parsed.tag == "" || parsed.digest != "") {
		err = errors.New("must be registry/repository:tag to push to, with a tag and without a digest")
	}
	if err != nil {
		return ctf.Scenario{}, ctf.ReferenceMalformed(reference, err)
	}
	registries, err := newConnector(how)
	if err != nil {
		return ctf.Scenario{}, err
	}
	defer registries.transport.CloseIdleConnections()
	repo, err := registries.repository(parsed)
	if err != nil {
		return ctf.Scenario{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ctf.Scenario{}, fmt.Errorf("read the scenario: %w", err)
	}
	defer func() { _ = root.Close() }()
	files, err := pack(root)
	if err != nil {
		return ctf.Scenario{}, ctf.ScenarioMismatch(reference, err.Error(), nil)
	}
	call, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	pushed, err := send(call, repo, root, files, parsed.tag)
	if err != nil {
		return ctf.Scenario{}, explain(ctx, reference, err)
	}
	return ctf.Scenario{Reference: reference, Digest: string(pushed)}, nil
}

// pack lists the files below root in lexical order, and checks that they are a
// scenario.
func pack(root *os.Root) ([]file, error) {
	var files []file
	var size int64
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".git":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file, and links are not followed", name)
		}
		f, err := describe(root, name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if size += f.desc.Size; size > maxContent || len(files) > maxFiles {
			return fmt.Errorf("it has more than %d files or %d MiB", maxFiles, maxContent>>20)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = readProject(root)
	return files, err
}

func describe(root *os.Root, name string) (file, error) {
	f, err := root.Open(name)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	hash := digest.SHA256.Digester()
	size, err := io.Copy(hash.Hash(), f)
	if err != nil {
		return file{}, err
	}
	return fileOf(name, ocispec.Descriptor{
		MediaType:   FileMediaType,
		Digest:      hash.Digest(),
		Size:        size,
		Annotations: map[string]string{ocispec.AnnotationTitle: name},
	})
}

// send uploads what the registry does not have, and the manifest last.
func send(ctx context.Context, repo *remote.Repository, root *os.Root, files []file, tag string) (digest.Digest, error) {
	manifest := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       ocispec.DescriptorEmptyJSON,
	}
	for _, f := range files {
		if err := upload(ctx, repo, root, f); err != nil {
			return "", fmt.Errorf("push %s: %w", f.name, err)
		}
		manifest.Layers = append(manifest.Layers, f.desc)
	}
	if _, err := oras.PushBytes(ctx, repo, manifest.Config.MediaType, manifest.Config.Data); err != nil {
		return "", fmt.Errorf("push the empty configuration: %w", err)
	}
	// No date is written: the digest depends on the files alone.
	data, err := json.Marshal(manifest)
	if err != nil {
		return "", err
	}
	desc, err := oras.TagBytes(ctx, repo, manifest.MediaType, data, tag)
	if err != nil {
		return "", fmt.Errorf("push the manifest: %w", err)
	}
	return desc.Digest, nil
}

func upload(ctx context.Context, repo *remote.Repository, root *os.Root, f file) error {
	there, err := repo.Blobs().Exists(ctx, f.desc)
	if err != nil || there {
		return err
	}
	in, err := root.Open(f.name)
	if err != nil {
		return err
	}
	defer in.Close()
	return repo.Blobs().Push(ctx, f.desc, in)
}
