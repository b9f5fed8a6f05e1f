//go:build faults

package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

const (
	// mortal is a challenge whose instances end lifetime after they were made, and
	// that nobody deletes.
	mortal   = "mortal"
	lifetime = time.Second
)

// live has sources of the mortal challenge take an instance, one after the other,
// and expire be woken when it has ended, until stop is called.
func (f *faultSite) live(y *faults.Tally) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			s := f.servers[n%len(f.servers)]
			lived, err := f.outlive(ctx, s, fmt.Sprint("mortal-", n))
			if err != nil {
				y.Note(f.t, &y.Contradictions, "%v", err)
			}
			f.lived = f.lived || lived
			_ = wake(ctx, s, "expire") // whatever comes of it while things are broken
			<-time.After(lifetime / 4)
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// outlive takes an instance if it can, and is an error if that is there after its end.
func (f *faultSite) outlive(ctx context.Context, s *server, source string) (lived bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, late)
	defer cancel()
	created, err := s.Call(ctx, http.MethodPost, "/instance", map[string]any{"challengeId": mortal, "sourceId": source})
	if err != nil || created.Status != http.StatusOK {
		return false, nil // something is broken
	}
	var instance struct{ Until time.Time }
	if err := json.Unmarshal([]byte(created.Raw), &instance); err != nil {
		return false, fmt.Errorf("%s: %w", created.Raw, err)
	}
	<-time.After(time.Until(instance.Until))
	found, err := s.Call(ctx, http.MethodGet, "/instance/"+mortal+"/"+source, nil)
	if err == nil && found.Status == http.StatusOK {
		return true, fmt.Errorf("it is there after its end: %s", found.Raw)
	}
	return true, nil
}

// expired has all mortal instances end and expire look once, which leaves none.
func (f *faultSite) expired(y *faults.Tally) {
	key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: mortal}
	eventually(f.t, "all have ended", func() error {
		for entry, err := range f.store.All(f.t.Context(), key) {
			ok(f.t, err)
			if end := entry.Instance.Until; end != nil && time.Now().Before(*end) {
				return errors.New("one lives")
			}
		}
		return nil
	})
	ok(f.t, wake(f.t.Context(), f.servers[0], "expire"))
	for entry, err := range f.store.All(f.t.Context(), key) {
		ok(f.t, err)
		i := entry.Instance
		y.Note(f.t, &y.Stuck, "%s of %s is left after its end: it is %s, leased %v: %s", i.Key.Identity, i.Source, i.State, entry.Leased, i.Failure)
	}
}
