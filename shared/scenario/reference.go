package scenario

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry"
)

// maxReferenceLength is far above what registries allow, in bytes.
const maxReferenceLength = 1024

// A reference names an artifact in a repository.
type reference struct {
	registry, repository string
	tag                  string // empty if none was written
	digest               digest.Digest
}

// parseReference reads registry/repository[:tag][@sha256:digest].
func parseReference(text string) (reference, error) {
	if len(text) > maxReferenceLength {
		return reference{}, fmt.Errorf("must not be longer than %d bytes, has %d", maxReferenceLength, len(text))
	}
	host, path, ok := strings.Cut(text, "/")
	if !ok || host == "" {
		return reference{}, errors.New("must be registry/repository[:tag][@sha256:digest], has no registry")
	}
	path, hash, pinned := strings.Cut(path, "@")
	repository, tag, tagged := strings.Cut(path, ":")
	r := reference{registry: host, repository: repository, tag: tag, digest: digest.Digest(hash)}

	parsed := registry.Reference{Registry: host, Repository: repository, Reference: tag}
	if err := parsed.ValidateRegistry(); err != nil {
		return reference{}, err
	}
	if err := parsed.ValidateRepository(); err != nil {
		return reference{}, err
	}
	if tagged {
		if err := parsed.ValidateReferenceAsTag(); err != nil {
			return reference{}, err
		}
	}
	if pinned {
		if err := checkDigest(r.digest); err != nil {
			return reference{}, err
		}
	}
	return r, nil
}

// checkDigest accepts sha256 alone: the cache and the wire contract know no
// other.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", string(d), err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q: must be a sha256 digest", string(d))
	}
	return nil
}

// target is what to ask the registry for: the digest wins over the tag.
func (r reference) target() string {
	switch {
	case r.digest != "":
		return string(r.digest)
	case r.tag != "":
		return r.tag
	}
	return "latest"
}
