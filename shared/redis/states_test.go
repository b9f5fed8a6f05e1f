package redis_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestStates tries every cell of the tables in states.md, on one server: each
// cell has a challenge and a clock of its own.
func TestStates(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t)
	first := newEnv(t, url)
	tables := readTables(t)
	sections := map[string]func(t *testing.T, c *cell){
		"An instance that a source holds":         tryHeld,
		"The pending half of a blue-green update": tryHalf,
		"A pooled instance":                       tryPooled,
		"A challenge":                             tryChallenge,
	}
	for title, try := range sections {
		rows := tables[title]
		if len(rows) == 0 {
			t.Fatalf("states.md has no table under %q", title)
		}
		for n, row := range rows {
			t.Run(fmt.Sprintf("%s/%s/%s", title, row.verb, row.state), func(t *testing.T) {
				e := first
				e.store = open(t, url, first.keys, 0)
				c := &cell{env: e, key: key(fmt.Sprint(title, n)), verb: row.verb, state: row.state}
				try(t, c)
				if got := c.answer + " → " + c.next; got != row.want {
					t.Errorf("the page says %q, the store %q", row.want, got)
				}
			})
		}
	}
}

type row struct{ verb, state, want string }

// readTables reads the tables of states.md by the heading above each.
func readTables(t *testing.T) map[string][]row {
	t.Helper()
	text, err := os.ReadFile("../docs/states.md")
	check(t, err)
	tables := map[string][]row{}
	var title string
	var states []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			title, states = heading, nil
			continue
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for n := range cells {
			cells[n] = strings.TrimSpace(cells[n])
		}
		if states == nil {
			states = cells[1:]
			continue
		}
		if len(cells) != len(states)+1 {
			t.Fatalf("%s: the row of %q has %d cells for %d states", title, cells[0], len(cells)-1, len(states))
		}
		for n, want := range cells[1:] {
			tables[title] = append(tables[title], row{cells[0], states[n], want})
		}
	}
	return tables
}

// A cell is one try: the verb done to something in the state.
type cell struct {
	env
	key          ctf.ChallengeKey
	verb, state  string
	id           ctf.Identity // of the instance in the state
	answer, next string
}

const alice ctf.SourceID = "alice"

// word is the answer that an error stands for.
func word(t *testing.T, err error, ok string) string {
	t.Helper()
	switch {
	case err == nil:
		return ok
	case errors.Is(err, ctf.ErrSuperseded):
		return "superseded"
	case errors.Is(err, ctf.ErrNoneReady):
		return "none ready"
	}
	switch ctf.ReasonOf(err) {
	case ctf.ReasonChallengeExists:
		return "challenge exists"
	case ctf.ReasonChallengeNotFound:
		return "challenge not found"
	case ctf.ReasonChallengeExpired:
		return "challenge expired"
	case ctf.ReasonInstanceExists:
		return "exists"
	case ctf.ReasonInstanceNotFound:
		return "instance not found"
	case ctf.ReasonInstanceExpired:
		return "instance expired"
	}
	t.Fatalf("unexpected error: %v", err)
	return ""
}

// stateOf is the state of an instance in the words of the page.
func (c *cell) stateOf(t *testing.T, id ctf.Identity) string {
	t.Helper()
	for _, entry := range collect(t, c.store.All(t.Context(), c.key)) {
		i := entry.Instance
		if i.Key.Identity != id && (id != "" || i.Source != alice) {
			continue
		}
		end := i.Until
		if challenge, err := c.store.Challenge(t.Context(), c.key); err == nil && i.Source == "" {
			end = challenge.Until
		}
		if i.State == ctf.Ready && end != nil && end.Before(time.Now()) {
			return "ended"
		}
		return string(i.State)
	}
	return "none"
}

const past = -time.Second

// end makes every instance of the challenge that is ready end now.
func (c *cell) end(t *testing.T) {
	t.Helper()
	c.update(t, c.key, ctf.ChallengeChange{SetTimeout: true, Timeout: new(past)})
}

func (c *cell) hold(t *testing.T, state string) {
	t.Helper()
	if state == "none" {
		return
	}
	c.id = c.reserveKeyed(t).Instance.Key.Identity
	if state == "pending" {
		return
	}
	c.deploy(t, c.key, c.id)
	switch state {
	case "ended":
		c.end(t)
	case "deleting":
		_, _, err := c.store.DeleteInstance(t.Context(), c.key, alice)
		check(t, err)
	case "updating", "failed":
		c.update(t, c.key, newDigest(ctf.InPlace))
		if state == "failed" {
			l := c.lease(t, c.key, c.id)
			check(t, l.Abandon(t.Context(), ctf.Failed, "it went wrong"))
			l.Release()
		}
	}
}

func (c *cell) reserveKeyed(t *testing.T) ctf.Reservation {
	t.Helper()
	r, err := c.store.Reserve(t.Context(), ctf.ReserveRequest{Challenge: c.key, Source: alice, IdempotencyKey: "once"})
	check(t, err)
	return r
}

func (c *cell) reserveAnswer(t *testing.T, request ctf.ReserveRequest) string {
	t.Helper()
	request.Challenge, request.Source = c.key, alice
	r, err := c.store.Reserve(t.Context(), request)
	switch {
	case err != nil:
		return word(t, err, "")
	case r.Replaced != "" && r.Replaced == c.id:
		return "replaced"
	case r.Attached:
		return "attached"
	case r.Claimed:
		return "claimed"
	case r.Instance.Key.Identity == c.id:
		return "reserved"
	}
	return "made"
}

func listed(found bool) string {
	if found {
		return "listed"
	}
	return "empty"
}

func tryHeld(t *testing.T, c *cell) {
	challenge := newChallenge(string(c.key.ID))
	challenge.Timeout = new(10 * time.Minute)
	c.create(t, challenge)
	c.hold(t, c.state)
	ctx := t.Context()
	switch c.verb {
	case "create":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{IdempotencyKey: "other"})
	case "create, same idempotency key":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{IdempotencyKey: "once"})
	case "create, ready only":
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{IdempotencyKey: "other", ReadyOnly: true})
	case "create, pool not empty":
		c.update(t, c.key, ctf.ChallengeChange{SetMin: true, Pool: ctf.Pool{Min: 1}})
		c.deploy(t, c.key, c.pooled(t, c.key))
		c.answer = c.reserveAnswer(t, ctf.ReserveRequest{})
	case "retrieve":
		_, err := c.store.Instance(ctx, c.key, alice)
		c.answer = word(t, err, "found")
	case "query":
		mine := slices.ContainsFunc(collect(t, c.store.BySource(ctx, tenant, alice)), func(i ctf.Instance) bool { return i.Key.Challenge == c.key })
		if claimed := len(collect(t, c.store.Claimed(ctx, c.key))) > 0; claimed != mine {
			t.Errorf("by source it is listed: %v, by challenge: %v", mine, claimed)
		}
		c.answer = listed(mine)
	case "renew":
		_, err := c.store.Renew(ctx, c.key, alice)
		c.answer = word(t, err, "renewed")
	case "delete":
		_, d, err := c.store.DeleteInstance(ctx, c.key, alice)
		c.answer = word(t, err, firstOrAgain(d))
	default:
		c.tryShared(t)
	}
	c.next = c.stateOf(t, c.id)
}

func firstOrAgain(d ctf.Deletion) string {
	if d.First {
		return "first"
	}
	return "again"
}

// tryShared are the verbs that tables of instances have in common.
func (c *cell) tryShared(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	name, detail, _ := strings.Cut(c.verb, ", ")
	switch name {
	case "delete challenge":
		d, _, err := c.store.DeleteChallenge(ctx, c.key)
		c.answer = word(t, err, firstOrAgain(d))
	case "update":
		c.answer = c.updateAnswer(t, detail)
	case "deployed", "abandon", "forget", "lost":
		c.answer = c.leaseAnswer(t, name, detail)
	case "expire":
		c.store.Shift(3 * time.Minute)
		c.answer = "nothing"
		if slices.Contains(c.due(t), c.id) {
			c.answer = "due"
		}
	case "reconcile":
		c.answer = "nothing"
		if _, ok := c.find(t, c.key, c.id); ok {
			c.answer = "seen"
		}
	default:
		t.Fatalf("the test does not know the verb %q", c.verb)
	}
}

func (c *cell) updateAnswer(t *testing.T, detail string) string {
	t.Helper()
	change := ctf.ChallengeChange{}
	switch detail {
	case "terms only":
	case "pool off":
		change.SetMin = true
	default:
		change = newDigest(ctf.Strategy(detail))
		change.Scenario.Digest = "sha256:3"
	}
	before, _ := c.find(t, c.key, c.id)
	u := c.update(t, c.key, change)
	after, _ := c.find(t, c.key, c.id)
	switch {
	case slices.Contains(u.Deleting, c.id):
		return "dropped"
	case slices.Contains(u.Updating, c.id):
		return string(after.Strategy)
	case before.Revision != after.Revision:
		return "renewed"
	}
	return "nothing"
}

func (c *cell) leaseAnswer(t *testing.T, verb, detail string) string {
	t.Helper()
	ctx := t.Context()
	l, err := c.store.Lease(ctx, ctf.InstanceKey{Challenge: c.key, Identity: c.id})
	if ctf.ReasonOf(err) == ctf.ReasonInstanceNotFound {
		return "gone"
	}
	check(t, err)
	defer l.Release()
	w, err := l.Load(ctx)
	check(t, err)
	if detail == "challenge moved on" {
		change := newDigest(ctf.Recreate)
		change.Scenario.Digest = "sha256:4"
		c.update(t, c.key, change)
	}
	switch verb {
	case "deployed":
		_, err = l.Deployed(ctx, w, result(c.id))
	case "abandon":
		left := ctf.State(detail)
		if detail == "challenge moved on" {
			left = ctf.Ready
		}
		err = l.Abandon(ctx, left, "it went wrong")
	case "forget":
		err = l.Forget(ctx)
	case "lost":
		left := map[string]ctf.State{"repair": ctf.Updating, "end": ctf.Deleting, "show": ctf.Ready}
		err = l.Lose(ctx, w, left[detail], "it is gone")
	}
	return word(t, err, "done")
}
