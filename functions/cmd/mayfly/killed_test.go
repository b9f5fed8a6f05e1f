package main_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// A sweep is an operation that Mayfly is killed in, at each of its commands to
// Redis, each time about another challenge.
type sweep struct {
	// pool is how many instances the challenge keeps ready, and timeout how long an
	// instance lives.
	pool    int64
	timeout time.Duration
	// processes are what its instances are made of, where that can go wrong, else
	// they are nothing at all.
	processes bool
	// prepare makes ready what the operation is about; without it there is no
	// challenge yet.
	prepare func(k *killSite, id string)
	call    func(k *killSite, id string) (reply, error)
	// second is the reason of the answer to a call that is repeated after it was
	// done; none is that it succeeds again.
	second string
	// check looks at what has come of it when it is done; when it was left alone that
	// may be nothing. It holds once a repeated call is answered, unless it takes a
	// reconcile.
	check func(k *killSite, id string, done bool)
	later bool
	// whole: it looks at every challenge, so that none may be left for the next time.
	whole bool
}

const (
	// team is the source of the instance that an operation is about.
	team = "team"
	// brief is when instances end that are to end.
	brief = 50 * time.Millisecond
)

func sweeps() map[string]sweep {
	all := map[string]sweep{
		"delete": {
			processes: true, timeout: time.Hour, prepare: (*killSite).hold, call: calling(http.MethodDelete, "/instance/%s/"+team, nil),
			second: "INSTANCE_NOT_FOUND", check: (*killSite).wantDeleted,
		},
		"renew": {
			timeout: time.Hour, prepare: (*killSite).hold, call: calling(http.MethodPatch, "/instance/%s/"+team, map[string]any{}),
			check: (*killSite).wantRenewed,
		},
		"claim": {pool: 1, timeout: time.Hour, prepare: (*killSite).fill, call: (*killSite).create, check: (*killSite).wantClaimed},
		"create a challenge": {
			call: func(k *killSite, id string) (reply, error) {
				return k.server.Call(k.t.Context(), http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": k.scenario.Reference, "min": 1})
			},
			second: "CHALLENGE_ALREADY_EXISTS", check: (*killSite).wantChallenge,
		},
		"delete a challenge": {
			pool: 1, prepare: (*killSite).hold, call: calling(http.MethodDelete, "/challenge/%s", nil),
			second: "CHALLENGE_NOT_FOUND", check: (*killSite).wantNoChallenge,
		},
		"expire":      {processes: true, timeout: brief, prepare: (*killSite).outlive, call: waking("expire"), check: (*killSite).wantEnded, later: true},
		"fill a pool": {pool: 2, prepare: func(*killSite, string) {}, call: (*killSite).askToFill, check: (*killSite).wantChallenge},
		"reconcile":   {pool: 1, prepare: (*killSite).interrupt, call: waking("reconcile"), check: (*killSite).wantReconciled, whole: true},
	}
	for strategy, pool := range map[string]int64{"update_in_place": 1, "blue_green": 0, "recreate": 0} { // a pool follows by no strategy
		all["update, "+strategy] = sweep{
			processes: true, pool: pool, prepare: (*killSite).hold, check: (*killSite).wantUpdated,
			call: calling(http.MethodPatch, "/challenge/%s", map[string]any{
				"additional": map[string]string{"round": "2"}, "updateMask": "additional", "updateStrategy": strategy,
			}),
		}
	}
	return all
}

// TestKilledAtEachCommand kills Mayfly at each command to Redis of all that it
// does, creates aside, see [TestRetryAfterAKill]. When Redis has the last command
// the call is repeated, and answers what callers are promised; when that was never
// sent, nobody comes again. Either way all that is recorded agrees after one
// reconcile. With the race detector, which makes Mayfly slow to start, it is killed at
// each fifth, and make faults does the rest.
func TestKilledAtEachCommand(t *testing.T) {
	for name, what := range sweeps() {
		for how, repeated := range map[string]bool{"repeated": true, "left alone": false} {
			if !repeated && raceFlag == "-race" {
				continue
			}
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				newKillSite(t, what.processes).sweep(what, repeated)
			})
		}
	}
}

func (k *killSite) sweep(what sweep, repeated bool) {
	done := map[string]bool{}
	step := 1
	if raceFlag == "-race" {
		step = 5
	}
	for n, killed := 1, true; killed; n += step {
		id := fmt.Sprintf("challenge-%02d", n)
		if what.prepare != nil {
			k.register(k.store, id, what)
			what.prepare(k, id)
		}
		var answered bool
		answered, killed = k.killedAt(n, !repeated, id, what)
		if killed {
			k.server.Start()
			k.runOut()
		} else {
			k.t.Logf("killed %d times", (n-1)/step)
		}
		if killed && (repeated || what.whole) {
			k.repeat(n, id, what, answered)
			if answered = true; !what.later {
				what.check(k, id, true)
			}
		}
		if done[id] = answered; what.whole {
			k.judge(what, done)
			clear(done)
		}
	}
	k.judge(what, done)
	if k.t.Failed() {
		k.t.Logf("what Mayfly said last:\n%s", k.server.log)
	}
}

// judge looks at what all has come to after one reconcile, and that it can go.
func (k *killSite) judge(what sweep, done map[string]bool) {
	k.reconcile(done)
	var y faults.Tally
	for _, each := range k.flaws(&y) {
		k.t.Error(each.what)
	}
	for id := range done {
		what.check(k, id, done[id])
	}
	atOnce(len(k.challenges), func(n int) {
		if answer, err := k.server.Call(k.t.Context(), http.MethodDelete, "/challenge/"+k.challenges[n], nil); err != nil || answer.Status != http.StatusOK {
			k.t.Errorf("%s can't be deleted: %v %d %s", k.challenges[n], err, answer.Status, answer.Raw)
		}
	})
	if left := k.left(); len(left) > 0 {
		k.t.Errorf("of challenges that are deleted there is %v", left)
	}
}

// killedAt has Mayfly be killed at its nth command, unless it has done all before.
func (k *killSite) killedAt(n int, unsent bool, id string, what sweep) (answered, killed bool) {
	strike := k.wire.killAt
	if unsent {
		strike = k.wire.killBefore
	}
	dead := strike(n)
	answer, err := what.call(k, id)
	if err == nil {
		if answer.Status != http.StatusOK {
			k.t.Fatalf("killed at %d: %d %s", n, answer.Status, answer.Raw)
		}
		eventually(k.t, "all is done, or Mayfly is dead", func() error {
			select {
			case <-dead:
				return nil
			default:
				return k.rests(id)
			}
		})
		if !k.wire.spare() {
			return true, false
		}
	}
	select {
	case <-dead:
	case <-time.After(patience):
		k.t.Fatalf("at %d it neither answers nor dies: %v\n%s", n, err, k.server.log)
	}
	return err == nil, true
}

// repeat makes a call again, whose first answer the caller had or had not.
func (k *killSite) repeat(n int, id string, what sweep, answered bool) {
	answer, err := what.call(k, id)
	ok(k.t, err)
	again, anew := answer.Reason() == what.second && what.second != "", answer.Status == http.StatusOK
	if !again && !anew || anew && answered && what.second != "" {
		k.t.Errorf("killed at %d, repeated, answered before: %v: %d %s", n, answered, answer.Status, answer.Raw)
	}
}

// reconcile has one reconcile look at all, and finds out which challenges there are.
func (k *killSite) reconcile(all map[string]bool) {
	ok(k.t, wake(k.t.Context(), k.server, "reconcile"))
	k.challenges = nil
	for id := range all {
		if answer := k.server.try(k.t, http.MethodGet, "/challenge/"+id, nil); answer.Status == http.StatusOK {
			k.challenges = append(k.challenges, id)
			k.await(id)
		}
	}
	eventually(k.t, "nobody is at work", k.noLease)
	ok(k.t, wake(k.t.Context(), k.server, "expire"))
}

// The operations.

// calling is a call about a challenge.
func calling(method, path string, body any) func(*killSite, string) (reply, error) {
	return func(k *killSite, id string) (reply, error) {
		answer, err := k.server.Call(k.t.Context(), method, fmt.Sprintf(path, id), body)
		if until, parsed := untilOf(answer); parsed {
			k.renewed[id] = until
		}
		return answer, err
	}
}

// waking is a tick.
func waking(function string) func(*killSite, string) (reply, error) {
	return func(k *killSite, _ string) (reply, error) {
		return reply{Status: http.StatusOK}, wake(k.t.Context(), k.server, function)
	}
}

func (k *killSite) create(id string) (reply, error) {
	return k.server.callWith(k.t.Context(), http.Header{"Idempotency-Key": {"once"}}, http.MethodPost, "/instance",
		map[string]any{"challengeId": id, "sourceId": team})
}

// askToFill tells that a pool is short.
func (k *killSite) askToFill(id string) (reply, error) {
	sender, err := cloudevents.NewClientHTTP()
	ok(k.t, err)
	event, err := events.Encode(ctf.Event{ID: "1", Type: ctf.ChallengeUpdated, Challenge: challengeKey(id), At: time.Now()})
	ok(k.t, err)
	return reply{Status: http.StatusOK}, events.Send(k.t.Context(), sender, k.server.URL+"/fill-pool", event)
}
