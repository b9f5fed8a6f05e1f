//go:build cluster

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// pooled is how many instances the pools of these tests have, and claimed how
	// many are taken from them.
	pooled, claimed = 3, 2
	// filled is how long a pool may take to be full: functions start, and an event
	// that nobody takes is tried again for half a minute before reconcile gets it.
	filled = 3 * time.Minute
	// awayFor is how long a function is away.
	awayFor = time.Minute
	// ending instances end in that minute.
	ending, lifeWithoutExpire = 6, 20 * time.Second
)

// testEvents treats events badly, and state converges all the same.
func testEvents(t *testing.T, i *installation) {
	t.Run("twice and in any order", func(t *testing.T) { testDisorder(t, i) })
	t.Run("dropped", func(t *testing.T) { testDropped(t, i) })
	t.Run("bad", func(t *testing.T) { testBadEvent(t, i) })
	t.Run("function away", func(t *testing.T) {
		t.Run("fill-pool", func(t *testing.T) {
			t.Parallel()
			testFillPoolAway(t, i)
		})
		t.Run("expire", func(t *testing.T) {
			t.Parallel()
			testExpireAway(t, i)
		})
	})
}

// testDisorder sends every event that there is twice, to the broker and to the
// function, and ticks between them, all in any order.
func testDisorder(t *testing.T, i *installation) {
	id := i.pool(t)
	i.claim(t, id, 0, claimed)
	before := i.held(t, id, claimed)
	client, broker := i.broker(t)
	random := rand.New(rand.NewPCG(seed(t), 0)) //nolint:gosec // It is to come again.
	var all []func(context.Context) error
	for _, kind := range []ctf.EventType{ctf.ChallengeCreated, ctf.ChallengeUpdated, ctf.InstanceClaimed, ctf.InstanceDestroyed} {
		e, err := events.Encode(ctf.Event{
			ID: "e2e/" + string(ctf.NewIdentity()), Type: kind, At: time.Now(),
			Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(id)},
		})
		check(t, err)
		for range 2 {
			all = append(all,
				func(ctx context.Context) error { return post(ctx, client, broker, e) },
				func(ctx context.Context) error { return i.send(ctx, "fill-pool", e) },
				func(ctx context.Context) error { return i.send(ctx, "expire", newTick()) },
				func(ctx context.Context) error { return i.send(ctx, "reconcile", newTick()) })
		}
	}
	random.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(atOnce)
	for _, send := range all {
		group.Go(func() error { return send(ctx) })
	}
	check(t, group.Wait())
	i.wantPool(t, id, claimed)
	check(t, i.send(t.Context(), "reconcile", newTick())) // what is under way has come to its end
	i.wantPool(t, id, claimed)
	if d := gocmp.Diff(before, i.held(t, id, claimed), protocmp.Transform()); d != "" {
		t.Errorf("events changed what sources hold: %s", d)
	}
	i.forget(t, id)
}

// testDropped takes the trigger away, so that nobody hears of a claim, and the
// slow tick, which makes up for that.
func testDropped(t *testing.T, i *installation) {
	id := i.pool(t)
	slow := i.scheduleOf(t, "reconcile")
	i.reschedule(t, "reconcile", knative.ScheduleOff)
	back := takeAway(t, i.of(eventingv1.SchemeGroupVersion.WithResource("triggers")), "fill-pool")
	i.awaitUnheard(t, "fill-pool")
	// An earlier event may be delivered again, up to half a minute later.
	clustertest.Eventually(t, filled, "fill-pool has nothing to do", func() error { return i.gone(t, "fill-pool") })
	i.claim(t, id, 0, claimed)
	i.awaitPublished(t, id)
	back()
	i.wantShort(t, id, claimed, claimed)
	i.reschedule(t, "reconcile", slow)
	check(t, i.send(t.Context(), "reconcile", newTick()))
	i.wantPool(t, id, claimed)
	i.forget(t, id)
}

// testBadEvent publishes an event that its function can't read: it comes to
// reconcile, which takes it.
func testBadEvent(t *testing.T, i *installation) {
	e := cloudevents.NewEvent()
	e.SetID(string(ctf.NewIdentity()))
	e.SetSource("/e2e")
	e.SetType(events.TypePrefix + string(ctf.InstanceClaimed))
	check(t, e.SetData(cloudevents.ApplicationJSON, "nonsense"))
	client, broker := i.broker(t)
	check(t, post(t.Context(), client, broker, e))
	for _, function := range []string{"fill-pool", "reconcile"} {
		clustertest.Eventually(t, time.Minute, function+" got the event", func() error { return i.logged(t, function, e.ID()) })
	}
}

// testFillPoolAway takes fill-pool away: its events end at reconcile, which
// fills the pool. Then that is away for a minute too, and nobody does until it
// is woken.
func testFillPoolAway(t *testing.T, i *installation) {
	id := i.pool(t)
	back := i.takeAwayFunction(t, "fill-pool")
	began := time.Now()
	i.claim(t, id, 0, claimed)
	i.wantPool(t, id, claimed)
	t.Logf("without fill-pool the pool is full after %v", time.Since(began).Round(time.Second))

	reconcileBack := i.takeAwayFunction(t, "reconcile")
	began = time.Now()
	i.claim(t, id, claimed, claimed+1)
	<-time.After(awayFor - time.Since(began))
	i.wantShort(t, id, claimed+1, 1)
	reconcileBack()
	check(t, i.send(t.Context(), "reconcile", newTick()))
	i.wantPool(t, id, claimed+1)

	back()
	i.claim(t, id, claimed+1, claimed+2)
	i.wantPool(t, id, claimed+2)
	i.forget(t, id)
}

// testExpireAway takes expire away for the minute in which instances end: each
// is gone from the API at its second, and destroyed soon after expire is back.
func testExpireAway(t *testing.T, i *installation) {
	id := i.cards(t, &challengev1.CreateChallengeRequest{Timeout: durationpb.New(lifeWithoutExpire)})
	back := i.takeAwayFunction(t, "expire")
	began := time.Now()
	challenges, instances := i.clients(t, "gateway")
	group, ctx := errgroup.WithContext(t.Context())
	for n := range ending {
		group.Go(func() error {
			instance, err := instances.CreateInstance(ctx, &instancev1.CreateInstanceRequest{ChallengeId: id, SourceId: fmt.Sprint(n)})
			if err != nil {
				return fmt.Errorf("create %d: %w", n, err)
			}
			for _, l := range ways(challenges, instances, instance) {
				group.Go(func() error { return l.watchHiding(ctx, instance) })
			}
			return nil
		})
	}
	check(t, group.Wait())
	<-time.After(awayFor - time.Since(began))
	if objects := i.objects(t, id); len(objects) != ending {
		t.Errorf("%d of %d instances are there, though nobody could destroy them", len(objects), ending)
	}
	back()
	began = time.Now()
	clustertest.Eventually(t, tick+teardown+turned, "what ended is destroyed", func() error {
		if objects := i.objects(t, id); len(objects) > 0 {
			return fmt.Errorf("%d instances are left", len(objects))
		}
		return nil
	})
	t.Logf("destroyed %v after expire was back", time.Since(began).Round(time.Second))
	i.forget(t, id)
}

// pool makes a challenge, and returns when its pool is full.
func (i *installation) pool(t testing.TB) string {
	t.Helper()
	id := i.cards(t, &challengev1.CreateChallengeRequest{Min: pooled, Timeout: durationpb.New(time.Hour)})
	i.wantPool(t, id, 0)
	return id
}

// claim has sources take instances, which are there.
func (i *installation) claim(t testing.TB, challenge string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		i.create(t, challenge, fmt.Sprint(n))
	}
}

// held are the instances that sources hold.
func (i *installation) held(t testing.TB, challenge string, sources int) []*instancev1.Instance {
	t.Helper()
	_, instances := i.clients(t, "gateway")
	all := make([]*instancev1.Instance, sources)
	for n := range all {
		var err error
		all[n], err = instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: challenge, SourceId: fmt.Sprint(n)})
		check(t, err)
	}
	return all
}

// awaitUnheard waits until the broker gives no events to a trigger any more.
func (i *installation) awaitUnheard(t testing.TB, trigger string) {
	t.Helper()
	clustertest.Eventually(t, time.Minute, "nobody hears the events of "+trigger, func() error {
		list, err := i.of(messagingv1.SchemeGroupVersion.WithResource("subscriptions")).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, each := range list.Items {
			if owner := metav1.GetControllerOf(&each); owner != nil && owner.Name == trigger {
				return fmt.Errorf("%s is there", each.GetName())
			}
			var subscription messagingv1.Subscription
			check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(each.Object, &subscription))
			if err := i.isFollowed(t.Context(), subscription.Spec.Channel); err != nil {
				return err
			}
		}
		return nil
	})
}

// isFollowed returns an error while a channel gives events to whoever is not
// subscribed to it any more.
func (i *installation) isFollowed(ctx context.Context, to duckv1.KReference) error {
	kind := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	live, err := i.of(plural).Get(ctx, to.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var channel eventingduckv1.Channelable
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &channel); err != nil {
		return err
	}
	for _, served := range channel.Status.Subscribers {
		if !slices.ContainsFunc(channel.Spec.Subscribers, func(s eventingduckv1.SubscriberSpec) bool { return s.UID == served.UID }) {
			return fmt.Errorf("%s still serves %s", to.Name, served.UID)
		}
	}
	return nil
}

// awaitPublished waits until the broker has taken all events of a challenge.
func (i *installation) awaitPublished(t testing.TB, challenge string) {
	t.Helper()
	store, _ := i.redis(t)
	clustertest.Eventually(t, time.Minute, "all events are published", func() error {
		left, _, err := store.Pending(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(challenge)}, "")
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d are left", len(left))
		}
		return err
	})
}

// wantShort fails the test unless a pool lacks some, beside what was claimed.
func (i *installation) wantShort(t testing.TB, challenge string, claimed, lacks int) {
	t.Helper()
	if found := i.objects(t, challenge); len(found) != pooled+claimed-lacks {
		t.Errorf("%d instances, want %d: somebody heard what was to be lost", len(found), pooled+claimed-lacks)
	}
}

// wantPool waits until a pool is full, beside what was claimed.
func (i *installation) wantPool(t testing.TB, challenge string, claimed int) {
	t.Helper()
	clustertest.Eventually(t, filled, "the pool is full", func() error {
		found := i.objects(t, challenge)
		if len(found) != pooled+claimed {
			return fmt.Errorf("%d instances, want %d", len(found), pooled+claimed)
		}
		for identity, objects := range found {
			if objects != objectsOfCards {
				return fmt.Errorf("%s has %d objects", identity, objects)
			}
		}
		return nil
	})
}

// objects is how many objects each instance of a challenge has.
func (i *installation) objects(t testing.TB, challenge string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, identity := range i.instances(t, challenge) {
		found[identity]++
	}
	return found
}

// forget deletes a challenge, of which nothing is left.
func (i *installation) forget(t testing.TB, challenge string) {
	t.Helper()
	challenges, _ := i.clients(t, "gateway")
	_, err := challenges.DeleteChallenge(t.Context(), &challengev1.DeleteChallengeRequest{Id: challenge})
	check(t, err)
	i.wantNone(t, challenge)
}
