package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/pulumi/pulumi/pkg/v3/backend"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/providers"
)

// A journal sends entries to be stored before the step that they announce is
// taken. Entries about nothing outside (components, providers, what stays as it
// is) announce nothing: they wait for the next entry that does, and a scenario
// without resources needs no round trip at all.
type journal struct {
	operation *operation

	mu       sync.Mutex
	entries  []apitype.JournalEntry
	unstored int            // from here on entries wait
	outside  map[int64]bool // operations on something outside
}

var _ backend.JournalPersister = (*journal)(nil)

// Append returns when the entry is stored, or need not be.
func (j *journal) Append(_ context.Context, entry apitype.JournalEntry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
	if entry.Kind == apitype.JournalEntryKindBegin && concernsOutside(entry.Operation) {
		j.outside[entry.OperationID] = true
	}
	if !j.outside[entry.OperationID] {
		return nil
	}
	for ; j.unstored < len(j.entries); j.unstored++ {
		if err := j.store(j.entries[j.unstored]); err != nil {
			return err
		}
	}
	return nil
}

// store skips failures. A call that failed may have done half its work, so it
// stays in the journal as begun, and the next operation looks at what is there.
func (j *journal) store(entry apitype.JournalEntry) error {
	if entry.Kind == apitype.JournalEntryKindFailure {
		return nil
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("write a journal entry: %w", err)
	}
	o := j.operation
	if err := o.session.store(o.root, report{Entry: raw}); err != nil {
		o.stop(err)
		return err
	}
	return nil
}

func concernsOutside(op *apitype.OperationV2) bool {
	return op != nil && op.Resource.Custom && !op.Resource.External &&
		!providers.IsProviderType(op.Resource.URN.Type()) && op.Resource.URN.Type().Package() != "pulumi"
}

// final is the state after all entries.
func (j *journal) final(base *apitype.DeploymentV3) (*apitype.DeploymentV3, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	replayer := backend.NewJournalReplayer(base)
	for _, entry := range j.entries {
		if err := replayer.Add(entry); err != nil {
			return nil, fmt.Errorf("replay the journal: %w", err)
		}
	}
	typed, err := replayer.GenerateDeployment()
	if err != nil {
		return nil, fmt.Errorf("replay the journal: %w", err)
	}
	return typed.Deployment, nil
}
