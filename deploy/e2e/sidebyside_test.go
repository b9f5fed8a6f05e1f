//go:build cluster

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/knative"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// The names of revisions, in front of their function's, and of half of both.
	older, newer, either = "older-", "newer-", ""
	half                 = int64(50)
	// turned is how long Knative takes to lead traffic elsewhere.
	turned = 2 * time.Minute
	// lives are led at once by callers who meet both versions.
	lives = 6
	// brief is how long instances live that end while the ticks are held: longer
	// than it takes until the last tick has come that was under way.
	brief = 40 * time.Second
	// again is the pause of a caller who was told that others are newer, and
	// within how long somebody answers.
	again  = 50 * time.Millisecond
	within = time.Minute
)

// newerSchema makes the code write records that the code as it is can't read.
func newerSchema() edit { return edit{"shared/redis/keys.go", "const schema = 1", "const schema = 2"} }

// testSideBySide has every second call answered by a version that writes records
// which the other one can't read: that one says so and leaves them as they are.
// When all are new, everything is there.
func testSideBySide(t *testing.T, i *installation, next version, cheap string) {
	s := &sides{i: i, scenario: cheap}
	i.split(t, next, "create-challenge", "retrieve-challenge", "update-challenge", "delete-challenge",
		"create-instance", "retrieve-instance", "query-instance", "renew-instance", "delete-instance",
		"expire", "fill-pool", "reconcile")
	s.do(t, older, "was", "1", "create-challenge", "create-instance")
	s.do(t, newer, "was", "1", "retrieve-challenge", "retrieve-instance", "query-instance", "renew-instance", "update-challenge")
	s.do(t, older, "was", "1", "retrieve-challenge", "retrieve-instance", "query-instance", "renew-instance")
	s.do(t, newer, "was", "2", "create-instance")
	s.do(t, newer, "new", "3", "create-challenge", "create-instance")
	before := s.look(t)
	s.refused(t, "new", "3", "retrieve-challenge", "update-challenge", "delete-challenge",
		"retrieve-instance", "query-instance", "renew-instance", "delete-instance", "create-instance")
	s.refused(t, "was", "2", "retrieve-challenge", "update-challenge", "delete-challenge",
		"retrieve-instance", "query-instance", "renew-instance", "delete-instance")
	s.wake(t)
	for n, now := range s.look(t) {
		if !proto.Equal(before[n], now) {
			t.Errorf("the older version changed what it can't read:\n%v\n%v", before[n], now)
		}
	}
	s.live(t)
	load := startLoad(t, i, "next", cheap, s.patiently)
	i.upgrade(t, next)
	load.end(t) // after a whole round of all verbs
	for name, f := range i.functions(t) {
		if len(f.Status.Traffic) != 1 || f.Status.Traffic[0].RevisionName != f.Status.LatestCreatedRevisionName {
			t.Errorf("%s is answered by %v", name, f.Status.Traffic)
		}
	}
	i.wantVersions(t, map[string]string{either: "next"}, i.names(t)...)
	s.do(t, either, "was", "1", "retrieve-instance", "update-challenge", "delete-instance")
	s.do(t, either, "was", "2", "retrieve-instance", "delete-challenge")
	s.do(t, either, "new", "3", "retrieve-instance", "renew-instance", "delete-challenge")
	i.wantNone(t, "was")
	i.wantNone(t, "new")
}

// split gives half of the calls of functions to another version.
func (i *installation) split(t *testing.T, next version, functions ...string) {
	t.Helper()
	all := i.functions(t)
	for _, name := range functions {
		container := all[name].Spec.Template.Spec.Containers[0]
		image := next.api
		if !strings.Contains(container.Image, "/api@") {
			image = next.engine
		}
		percent, latest := half, true
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
			{"op": "add", "path": "/spec/traffic", "value": []servingv1.TrafficTarget{
				{Tag: strings.TrimSuffix(older, "-"), RevisionName: all[name].Status.LatestReadyRevisionName, Percent: &percent},
				{Tag: strings.TrimSuffix(newer, "-"), LatestRevision: &latest, Percent: &percent},
			}},
		})
		check(t, err)
		_, err = i.services().Patch(t.Context(), name, types.JSONPatchType, patch, metav1.PatchOptions{})
		check(t, err)
	}
	for _, name := range functions {
		i.awaitReady(t, name)
	}
	i.wantVersions(t, map[string]string{older: "named", newer: "next"}, functions...)
}

// sides are the two versions, each function at an address of its own.
type sides struct {
	i        *installation
	scenario string
	told     atomic.Int64 // calls that were refused and made again
}

func (s *sides) verb(t *testing.T, side, name, challenge, source string) func(context.Context) error {
	t.Helper()
	challenges, instances := s.i.clients(t, side+name)
	return (&grpcUser{challenges, instances, s.scenario}).verbs(challenge, source)[name]
}

func (s *sides) do(t *testing.T, side, challenge, source string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.verb(t, side, name, challenge, source)(t.Context()); err != nil {
			t.Fatalf("%s%s of %s/%s: %v", side, name, challenge, source, err)
		}
	}
}

// refused wants the older version to say that it can't read something.
func (s *sides) refused(t *testing.T, challenge, source string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.verb(t, older, name, challenge, source)(t.Context()); !isNewer(err) {
			t.Errorf("%s of %s/%s by the older version: %v", name, challenge, source, err)
		}
	}
}

// isNewer tells of any protocol's error.
func isNewer(err error) bool {
	code := status.Code(err)
	return (code == codes.Unavailable || code == codes.Unknown) && strings.Contains(err.Error(), "written by a newer version")
}

// look returns all that the newer version sees.
func (s *sides) look(t *testing.T) []proto.Message {
	t.Helper()
	challenges, _ := s.i.clients(t, newer+"retrieve-challenge")
	_, instances := s.i.clients(t, newer+"retrieve-instance")
	var all []proto.Message
	for _, id := range []string{"was", "new"} {
		challenge, err := challenges.RetrieveChallenge(t.Context(), &challengev1.RetrieveChallengeRequest{Id: id})
		check(t, err)
		all = append(all, challenge)
	}
	for _, of := range [][2]string{{"was", "1"}, {"was", "2"}, {"new", "3"}} {
		instance, err := instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: of[0], SourceId: of[1]})
		check(t, err)
		all = append(all, instance)
	}
	return all
}

// wake has both versions woken when an instance of each is due: the older one
// destroys its own, whatever else is there, and leaves what it can't read to the
// newer one.
func (s *sides) wake(t *testing.T) {
	t.Helper()
	for _, side := range []string{older, newer} {
		challenges, _ := s.i.clients(t, side+"create-challenge")
		_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{
			Id: side + "brief", Scenario: s.scenario, Timeout: durationpb.New(brief),
		})
		check(t, err)
		s.do(t, side, side+"brief", "1", "create-instance")
	}
	defer s.i.holdTick(t)()
	_, instances := s.i.clients(t, newer+"retrieve-instance")
	clustertest.Eventually(t, brief+tick, "they are over", func() error {
		for _, side := range []string{older, newer} {
			_, err := instances.RetrieveInstance(t.Context(), &instancev1.RetrieveInstanceRequest{ChallengeId: side + "brief", SourceId: "1"})
			if status.Code(err) != codes.NotFound {
				return fmt.Errorf("%s: %w", side, cmp.Or(err, errors.New("it is there")))
			}
		}
		return nil
	})
	for _, function := range []string{"expire", "reconcile", "fill-pool"} {
		if err := s.send(t, older, function); err != nil && !strings.Contains(err.Error(), "written by a newer version") {
			t.Errorf("%s%s: %v", older, function, err)
		}
	}
	s.i.wantNone(t, older+"brief")
	// It is two ConfigMaps: its own, and what owns it.
	if left := slices.Compact(slices.Sorted(slices.Values(s.i.instances(t, newer+"brief")))); len(left) != 1 {
		t.Errorf("of an instance that only the newer version can read there are %v", left)
	}
	for _, function := range []string{"expire", "reconcile", "fill-pool"} {
		clustertest.Eventually(t, within, newer+function+" takes an event", func() error { return s.send(t, newer, function) })
	}
	s.i.wantNone(t, newer+"brief")
	s.do(t, newer, older+"brief", "", "delete-challenge")
	s.do(t, newer, newer+"brief", "", "delete-challenge")
}

// send wakes a function of a side, because of something that is newer.
func (s *sides) send(t *testing.T, side, function string) error {
	t.Helper()
	event := newTick()
	if function == "fill-pool" {
		var err error
		event, err = events.Encode(ctf.Event{
			ID: "e2e/" + string(ctf.NewIdentity()), Type: ctf.InstanceClaimed, At: time.Now(),
			Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "new"},
		})
		check(t, err)
	}
	return post(t.Context(), s.i.plain, s.i.url(side+function)+"/"+function, event)
}

// holdTick has the fast tick, which is on, wake nobody until it is let go.
func (i *installation) holdTick(t *testing.T) (letGo func()) {
	t.Helper()
	set := func(schedule string) {
		_, err := i.Objects.Resource(sourcesv1.SchemeGroupVersion.WithResource("pingsources")).Namespace(i.namespace).
			Patch(t.Context(), "expire", types.MergePatchType, []byte(`{"spec":{"schedule":"`+schedule+`"}}`), metav1.PatchOptions{})
		check(t, err)
	}
	if was := i.schedule(t); was != knative.ScheduleOn {
		t.Errorf("the tick is %s while instances are due", was)
	}
	set("0 0 2 2 *")
	return func() { set(knative.ScheduleOn) }
}

// live has callers go through whole lives, answered by either version; they ask
// again when it is the older one's turn and it can't.
func (s *sides) live(t *testing.T) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	for n := range lives {
		id := fmt.Sprintf("either-%d", n)
		var steps []order
		for _, name := range []string{
			"create-challenge", "retrieve-challenge", "create-instance", "retrieve-instance", "query-instance",
			"renew-instance", "update-challenge", "delete-instance", "delete-challenge",
		} {
			steps = append(steps, order{name, s.patiently(s.verb(t, either, name, id, id))})
		}
		group.Go(func() error {
			for _, step := range steps {
				if err := step.do(ctx); err != nil {
					return fmt.Errorf("%s of %s: %w", step.verb, id, err)
				}
			}
			return nil
		})
	}
	check(t, group.Wait())
	t.Logf("%d lives, %d calls were refused on the way", lives, s.told.Load())
	if s.told.Load() == 0 {
		t.Error("no call met a newer record at the older version")
	}
}

// patiently makes a call until a version answers that can.
func (s *sides) patiently(do call) call {
	return func(ctx context.Context) error {
		pause := time.NewTicker(again)
		defer pause.Stop()
		for late := time.Now().Add(within); ; <-pause.C {
			err := do(ctx)
			if !isNewer(err) || time.Now().After(late) {
				return err
			}
			s.told.Add(1)
		}
	}
}
