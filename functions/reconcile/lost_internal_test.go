package reconcile

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A broken platform says what it has, and then that it can't go on.
type broken struct{ hall }

func (b broken) Instances(ctx context.Context) iter.Seq2[ctf.Holding, error] {
	return func(yield func(ctf.Holding, error) bool) {
		for h := range b.hall.Instances(ctx) {
			if !yield(h, nil) {
				return
			}
		}
		yield(ctf.Holding{}, errors.New("the rest can't be read"))
	}
}

// Another platform is for what other providers make.
type other struct{ hall }

func (other) Shows(ctf.Resource) bool { return false }

// What a platform does not have is lost only where that platform knows ours, tells
// all, and has made something for it.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		platforms func(others, lost hall) []Platform
		want      bool
	}{
		"not there": {func(others, _ hall) []Platform {
			return []Platform{others}
		}, true},
		"dead": {func(others, lost hall) []Platform {
			lost[0].Dead = true
			return []Platform{append(others, lost...)}
		}, true},
		"dead on one of two platforms": {func(others, lost hall) []Platform {
			dead := hall{lost[0]}
			dead[0].Dead = true
			return []Platform{append(others, dead...), other{append(others[:1:1], lost...)}}
		}, true},
		"there": {func(others, lost hall) []Platform {
			return []Platform{append(others, lost...)}
		}, false},
		"on one of two platforms": {func(others, lost hall) []Platform {
			return []Platform{others, other{append(others[:1:1], lost...)}}
		}, false},
		"nothing is there": {func(hall, hall) []Platform {
			return []Platform{hall{}}
		}, false},
		"nothing of ours is there": {func(hall, hall) []Platform {
			theirs := ctf.InstanceKey{Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "other"}, Identity: ctf.NewIdentity()}
			return []Platform{hall{{Key: theirs, Since: time.Now().Add(time.Hour)}}}
		}, false},
		"the platform fails": {func(others, _ hall) []Platform {
			return []Platform{broken{others}}
		}, false},
		"the platform is for other things": {func(others, _ hall) []Platform {
			return []Platform{other{others}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, time.Millisecond)
			check(t, s.lifecycle.SettleAll(t.Context(), s.key, s.ids))
			s.store.Shift(time.Minute) // they are ready for longer than it takes to look
			var all hall
			for _, id := range s.ids {
				all = append(all, ctf.Holding{Key: ctf.InstanceKey{Challenge: s.key, Identity: id}})
			}
			others := all[: len(all)-1 : len(all)-1]
			s.inventory = Inventory{Platforms: test.platforms(others, all[len(all)-1:]), Lost: End}
			_ = s.compare(t.Context()) // some platform fails
			left := map[ctf.Identity]bool{}
			for entry, err := range s.store.All(t.Context(), s.key) {
				check(t, err)
				left[entry.Instance.Key.Identity] = true
			}
			if lost := !left[s.ids[len(s.ids)-1]]; lost != test.want {
				t.Errorf("it is lost: %v, want %v", lost, test.want)
			}
			for _, other := range others {
				if !left[other.Key.Identity] {
					t.Errorf("%s is lost as well", other.Key.Identity)
				}
			}
		})
	}
}
