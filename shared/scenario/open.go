package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	fetchTimeout = 5 * time.Minute
	downloads    = 4 // at once, of one scenario
	// attempts is how often content may vanish between its fetch and its use.
	attempts = 3
)

// Open returns the content with the digest of s, from the cache if it is
// there, so that a registry that is away stops nobody who was there before.
// The caller must close it. What is no scenario is a ScenarioMismatch error,
// source that does not compile a ScenarioPreprocessing error, and any trouble
// with the registry an OCIInteraction error of kind Internal. When ctx ends,
// the waiting does, not the fetch.
func (l *Library) Open(ctx context.Context, s ctf.Scenario) (*Content, error) {
	d := digest.Digest(s.Digest)
	if err := checkDigest(d); err != nil {
		return nil, fmt.Errorf("open scenario %s: %w", s.Reference, err)
	}
	for range attempts {
		c, err := l.cache.open(ctx, d)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return c, err
		}
		if err := l.fetchOnce(ctx, s); err != nil {
			return nil, err
		}
		c, err = l.cache.open(ctx, d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := l.cache.evict(); err != nil {
			c.Close()
			return nil, fmt.Errorf("make room in the scenario cache: %w", err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("open scenario %s: the cache drops it before it is used: it is too small", s.Reference)
}

// fetchOnce fetches s, or joins a fetch of it that is under way.
func (l *Library) fetchOnce(ctx context.Context, s ctf.Scenario) error {
	done := l.flights.DoChan(s.Reference+"@"+s.Digest, func() (any, error) {
		if !l.begin() {
			return nil, errClosed
		}
		defer l.fetches.Done()
		return nil, l.fetch(l.running, s)
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Library) fetch(ctx context.Context, s ctf.Scenario) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout+buildTimeout)
	defer cancel()
	d := digest.Digest(s.Digest)
	return l.cache.add(ctx, d, func(dir string) (entry, error) {
		files := filepath.Join(dir, filesDir)
		if err := l.download(ctx, s, files); err != nil {
			return entry{}, err
		}
		return l.prepare(ctx, s, dir)
	})
}

// download writes the files of s into dir.
func (l *Library) download(ctx context.Context, s ctf.Scenario, dir string) error {
	parsed, err := parseReference(s.Reference)
	if err != nil {
		return ctf.ReferenceMalformed(s.Reference, err)
	}
	repo, err := l.registries.repository(parsed)
	if err != nil {
		return ctf.RegistryFailed(s.Reference, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	call, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	files, err := listFiles(call, repo, s)
	if err != nil {
		return explainFetch(ctx, s, err)
	}
	group, groupCtx := errgroup.WithContext(call)
	group.SetLimit(downloads)
	for _, f := range files {
		group.Go(func() error { return save(groupCtx, repo.Blobs(), f, root) })
	}
	return explainFetch(ctx, s, group.Wait())
}

// listFiles reads the manifest of s.
func listFiles(ctx context.Context, repo *remote.Repository, s ctf.Scenario) ([]file, error) {
	desc, manifest, err := oras.FetchBytes(ctx, repo.Manifests(), s.Digest, oras.FetchBytesOptions{MaxBytes: maxManifest})
	if err != nil {
		return nil, err
	}
	if desc.MediaType == ocispec.MediaTypeImageIndex {
		return nil, ctf.ScenarioMismatch(s.Reference, "it is an image index, not an artifact with files", nil)
	}
	files, err := filesOf(manifest)
	if err != nil {
		return nil, ctf.ScenarioMismatch(s.Reference, err.Error(), nil)
	}
	return files, nil
}

// save fetches one file, verified, below root.
func save(ctx context.Context, blobs registry.BlobStore, f file, root *os.Root) (err error) {
	blob, err := blobs.Fetch(ctx, f.desc)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", f.name, err)
	}
	defer blob.Close()
	if err := root.MkdirAll(path.Dir(f.name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	verified := content.NewVerifyReader(blob, f.desc)
	if _, err := io.Copy(out, verified); err != nil {
		return fmt.Errorf("fetch %s: %w", f.name, err)
	}
	if err := verified.Verify(); err != nil {
		return fmt.Errorf("fetch %s: %w", f.name, err)
	}
	return nil
}

// explainFetch is explain for content that was resolved before: whatever the
// registry says now is not the fault of who asks for an instance.
func explainFetch(caller context.Context, s ctf.Scenario, err error) error {
	if err == nil || ctf.ReasonOf(err) == ctf.ReasonScenarioMismatch {
		return err
	}
	if disk, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("store scenario %s: %w", s.Reference, disk)
	}
	explained, ok := errors.AsType[*ctf.Error](explain(caller, s.Reference, err))
	if !ok {
		return context.Cause(caller)
	}
	detail := explained.Message
	if explained.Reason == ctf.ReasonReferenceNotFound {
		detail = "the registry no longer has the content " + s.Digest + ": push it again, or update the challenge"
	}
	return withDetail(ctf.RegistryFailed(s.Reference, err), detail)
}

// prepare makes the files in dir runnable and returns their entry.
func (l *Library) prepare(ctx context.Context, s ctf.Scenario, dir string) (entry, error) {
	files := filepath.Join(dir, filesDir)
	root, err := os.OpenRoot(files)
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = root.Close() }()
	p, err := readProject(root)
	if err != nil {
		return entry{}, ctf.ScenarioMismatch(s.Reference, err.Error(), nil)
	}
	if p.manifest {
		size, err := sizeOf(dir)
		return entry{Project: p.name, Size: size}, err
	}
	program := path.Join(filesDir, p.binary)
	if p.binary == "" {
		program = built
		output, err := compile(ctx, files, filepath.Join(dir, built))
		if err != nil {
			return entry{}, ctf.ScenarioPreprocessing(s.Reference, l.cache.path(digest.Digest(s.Digest)), output, err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, program), 0o755); err != nil {
		return entry{}, err
	}
	size, err := sizeOf(dir)
	return entry{Project: p.name, Program: program, Size: size}, err
}

// sizeOf returns the bytes in all files below dir.
func sizeOf(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	return total, err
}
