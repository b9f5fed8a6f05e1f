package process_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/process"
)

// identities are those that have anything in a directory.
func identities(t *testing.T, dir string) []ctf.Identity {
	t.Helper()
	p, err := process.NewProvider(process.Options{Directory: dir})
	ok(t, err)
	defer p.Close()
	// Also when the test is over.
	holdings, err := ctf.Collect(p.Instances(context.WithoutCancel(t.Context())))
	ok(t, err)
	var all []ctf.Identity
	for _, h := range holdings {
		all = append(all, h.Key.Identity)
	}
	return all
}

func TestInstances(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProvider(t, process.Options{Directory: dir})
	key := ctf.InstanceKey{
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "web/one é"}, Identity: identity,
	}
	p.Bind(key)
	began := time.Now()
	create(t, p, "one", role("serve"))
	first := time.Now()
	two := create(t, p, "two", role("serve"))
	ok(t, os.MkdirAll(filepath.Join(dir, "unrecorded", "x-00000000", "work"), 0o700))

	holdings, err := ctf.Collect(newProvider(t, process.Options{Directory: dir}).Instances(t.Context()))
	ok(t, err)
	var keys []ctf.InstanceKey
	for _, h := range holdings {
		keys = append(keys, h.Key)
	}
	if diff := cmp.Diff([]ctf.InstanceKey{key, {Identity: "unrecorded"}}, keys); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if since := holdings[0].Since; since.Before(began) || since.After(first) {
		t.Errorf("since %v, want between %v and %v", since, began, first)
	}
	if holdings[0].Dead || !holdings[1].Dead {
		t.Errorf("dead: %v %v, want no and yes", holdings[0].Dead, holdings[1].Dead)
	}
	ok(t, syscall.Kill(pid(two.Properties), syscall.SIGKILL))
	eventually(t, "an instance with one dead program is dead", func() bool {
		holdings, err := ctf.Collect(p.Instances(t.Context()))
		ok(t, err)
		return holdings[0].Dead
	})
}
