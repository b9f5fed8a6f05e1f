package scenario

import (
	"context"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const resolveTimeout = 30 * time.Second

var _ ctf.Resolver = (*Library)(nil)

// Resolve asks the registry what the reference means now; nothing is
// remembered from earlier calls. A digest in the reference wins over the tag,
// which is not compared; without either the tag is latest. Errors are of the
// OCI* reasons.
func (l *Library) Resolve(ctx context.Context, reference string) (ctf.Scenario, error) {
	parsed, err := parseReference(reference)
	if err != nil {
		return ctf.Scenario{}, ctf.ReferenceMalformed(reference, err)
	}
	repo, err := l.registries.repository(parsed)
	if err != nil {
		return ctf.Scenario{}, ctf.RegistryFailed(reference, err)
	}
	call, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	desc, err := repo.Resolve(call, parsed.target())
	if err != nil {
		return ctf.Scenario{}, explain(ctx, reference, err)
	}
	if err := checkDigest(desc.Digest); err != nil {
		return ctf.Scenario{}, ctf.RegistryFailed(reference, err)
	}
	return ctf.Scenario{Reference: reference, Digest: string(desc.Digest)}, nil
}
