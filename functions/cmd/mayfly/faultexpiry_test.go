//go:build faults

package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

const (
	// mortal is a challenge whose instances end lifetime after they were made, and
	// that nobody deletes. Clocks are set further apart than that.
	mortal   = "mortal"
	lifetime = 2 * time.Second
	// exact is how much of a moment is lost where it is written down.
	exact = time.Millisecond
)

// outlive takes an instance if it can, has expire look too early and sees the
// instance all the same, and does not see it after its end.
func (p *party) outlive(n int) {
	source := fmt.Sprint("mortal-", n)
	began := time.Now()
	created, err := p.once(http.MethodPost, "/instance", map[string]any{"challengeId": mortal, "sourceId": source})
	if err != nil || created.Status != http.StatusOK {
		if err == nil && !p.what.excuses(created) {
			p.mistake("a create of %s is answered %s", source, created.Raw)
		}
		<-time.After(callAgain)
		return
	}
	until := p.lasts(created, lifetime, began)
	for _, at := range []time.Time{{}, until} {
		<-time.After(time.Until(at))
		_ = wake(p.t.Context(), p.servers[p.random.IntN(len(p.servers))], "expire") // whatever comes of it while things are broken
		asked := time.Now()
		found, err := p.once(http.MethodGet, "/instance/"+mortal+"/"+source, nil)
		switch {
		case err != nil || p.what.excuses(found):
		case found.Status == http.StatusOK && asked.Before(until):
			p.see(seenAlive)
		case found.Reason() == "INSTANCE_NOT_FOUND" && time.Now().After(until):
			p.see(seenEnded)
		default:
			p.mistake("%v before the end of %s is said %s", time.Until(until), source, found.Raw)
		}
	}
}

// once makes a call to any of the servers.
func (p *party) once(method, path string, body any) (reply, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), late)
	defer cancel()
	answer, err := p.servers[p.random.IntN(len(p.servers))].Call(ctx, method, path, body)
	if errors.Is(err, context.DeadlineExceeded) {
		p.mistake("%s %s has no answer after %v", method, path, late)
	}
	return answer, err
}

// lasts returns the end of an instance that was made just now, which is so long
// after that.
func (p *party) lasts(created reply, lifetime time.Duration, began time.Time) (until time.Time) {
	var instance struct{ Since, Until time.Time }
	if err := json.Unmarshal([]byte(created.Raw), &instance); err != nil {
		p.mistake("a create is answered %s: %v", created.Raw, err)
	}
	for _, moment := range []time.Time{instance.Since, instance.Until.Add(-lifetime)} {
		if moment.Before(began.Add(-exact)) || moment.After(time.Now()) {
			p.mistake("what was made between %v and %v, for %v, is answered %s", began, time.Now(), lifetime, created.Raw)
		}
	}
	return instance.Until
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
