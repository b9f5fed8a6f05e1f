//go:build cluster

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

const (
	// many instances end, each this long after it was created, some at once.
	many   = 50
	atOnce = 5
	life   = 90 * time.Second
	tick   = 10 * time.Second
	// lookEvery is the time between two looks at an instance.
	lookEvery = 200 * time.Millisecond
)

// testExpiry has instances end one after the other: each is gone from the API at
// its second, none before, and destroyed within a tick and what destroying takes.
func testExpiry(t *testing.T, i *installation) {
	id := i.challenge(t, life)
	_, instances := i.clients(t, "gateway")
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
			watches.Go(func() (err error) {
				late[n], err = i.watchEnd(t.Context(), instances, instance)
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

// watchEnd looks at an instance until it is gone, and says how long after its
// end it was destroyed.
func (i *installation) watchEnd(ctx context.Context, instances instancev1.InstanceManagerClient, instance *instancev1.Instance) (time.Duration, error) {
	name, end := instance.GetSourceId(), instance.GetUntil().AsTime()
	request := &instancev1.RetrieveInstanceRequest{ChallengeId: instance.GetChallengeId(), SourceId: name}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for gone := false; !gone; <-look.C {
		asked := time.Now()
		_, err := instances.RetrieveInstance(ctx, request)
		gone = status.Code(err) == codes.NotFound
		switch {
		case err != nil && !gone:
			return 0, fmt.Errorf("look at %s: %w", name, err)
		case !gone && asked.After(end):
			return 0, fmt.Errorf("%s is there %v after its end", name, asked.Sub(end))
		case gone && time.Now().Before(end):
			return 0, fmt.Errorf("%s is gone %v before its end", name, time.Until(end))
		}
	}
	_, host, _ := strings.Cut(instance.GetConnectionInfo(), "//")
	for ; ; <-look.C {
		late := time.Since(end)
		there, err := i.serves(ctx, host)
		switch {
		case err != nil:
			return 0, err
		case !there:
			return late.Round(time.Millisecond), nil
		case late > tick+teardown:
			return 0, fmt.Errorf("%s is not destroyed %v after its end", name, late)
		}
	}
}
