//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

const (
	// many instances end, each this long after it was created, some at once.
	many   = 50
	atOnce = 5
	life   = 90 * time.Second
	tick   = 10 * time.Second
	// everyWay is of how many one is looked at in each way that there is.
	everyWay = 10
	// lookEvery is the time between two looks at an instance, lookSeldom that while
	// its end is further away than that: looks cost what is to destroy instances.
	lookEvery  = 200 * time.Millisecond
	lookSeldom = 5 * time.Second
)

// testExpiry has instances end one after the other: each is gone from the API at
// its second, none before, and destroyed within a tick and what destroying takes.
func testExpiry(t *testing.T, i *installation) {
	id := i.challenge(t, life)
	challenges, instances := i.clients(t, "gateway")
	deaths := i.watchDeaths(t, id)
	var watches errgroup.Group
	creates, ctx := errgroup.WithContext(t.Context())
	creates.SetLimit(atOnce)
	late := make([]time.Duration, many)
	for n := range many {
		creates.Go(func() error {
			instance, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: id, SourceId: fmt.Sprint(n)})
			if err != nil {
				return fmt.Errorf("create %d: %w", n, err)
			}
			identity, err := i.identity(ctx, instance)
			if err != nil {
				return fmt.Errorf("%d was created: %w", n, err)
			}
			looks := ways(challenges, instances, instance)
			if n%everyWay > 0 {
				looks = looks[:1]
			}
			for _, l := range looks {
				watches.Go(func() error { return l.watchHiding(t.Context(), instance) })
			}
			watches.Go(func() (err error) {
				late[n], err = i.watchEnd(t.Context(), deaths, identity, instance.GetUntil().AsTime())
				return err
			})
			return nil
		})
	}
	if err := errors.Join(creates.Wait(), watches.Wait()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(late)
	t.Logf("destroyed after their ends: half of %d within %v, all within %v", many, late[many/2], late[many-1])
	i.wantNone(t, id)
}

// watchEnd waits until an instance is destroyed, and says how long after its end
// that was. Nothing of it may go before.
func (i *installation) watchEnd(ctx context.Context, d *deaths, identity string, end time.Time) (time.Duration, error) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ; ; <-look.C {
		asked := time.Now()
		began, over := d.of(identity)
		switch {
		case !began.IsZero() && began.Before(end):
			return 0, fmt.Errorf("destroying %s began %v before its end", identity, end.Sub(began))
		case !over.IsZero():
			return over.Sub(end).Round(time.Millisecond), i.isLeft(ctx, identity)
		case asked.Sub(end) > tick+teardown:
			return 0, fmt.Errorf("%s is not destroyed %v after its end", identity, asked.Sub(end))
		}
	}
}

// A look is one way to ask whether an instance is there.
type look struct {
	way   string
	there func(context.Context) (bool, error)
}

// ways are all looks at an instance, the one at nothing else first.
func ways(challenges challengev1.ChallengeStoreClient, instances instancev1.InstanceManagerClient, of *instancev1.Instance) []look {
	is := func(other *instancev1.Instance) bool {
		return other.GetChallengeId() == of.GetChallengeId() && other.GetSourceId() == of.GetSourceId()
	}
	return []look{
		{"retrieve-instance", func(ctx context.Context) (bool, error) {
			_, err := instances.RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{ChallengeId: of.GetChallengeId(), SourceId: of.GetSourceId()})
			if status.Code(err) == codes.NotFound {
				return false, nil
			}
			return true, err
		}},
		{"retrieve-challenge", func(ctx context.Context) (bool, error) {
			challenge, err := challenges.RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: of.GetChallengeId()})
			return slices.ContainsFunc(challenge.GetInstances(), is), err
		}},
		{"query-instance", func(ctx context.Context) (bool, error) {
			stream, err := instances.QueryInstance(ctx, &instancev1.QueryInstanceRequest{SourceId: of.GetSourceId()})
			if err != nil {
				return false, err
			}
			for found := false; ; {
				next, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return found, nil
				}
				if err != nil {
					return false, err
				}
				found = found || is(next)
			}
		}},
	}
}

// watchHiding looks at an instance until it is not there, which must be at its
// second.
func (l look) watchHiding(ctx context.Context, of *instancev1.Instance) error {
	name, end := of.GetSourceId(), of.GetUntil().AsTime()
	for there := true; there; {
		<-time.After(max(lookEvery, min(lookSeldom, time.Until(end)-lookSeldom)))
		asked := time.Now()
		var err error
		there, err = l.there(ctx)
		switch {
		case status.Code(err) == codes.Unavailable && asked.Before(end.Add(teardown)):
			there = true // it said nothing; a pod that has just begun may not reach Redis yet
		case err != nil:
			return fmt.Errorf("%s of %s: %w", l.way, name, err)
		case there && asked.After(end):
			return fmt.Errorf("%s has %s %v after its end", l.way, name, asked.Sub(end))
		case !there && time.Now().Before(end):
			return fmt.Errorf("%s has %s no more %v before its end", l.way, name, time.Until(end))
		}
	}
	return nil
}
