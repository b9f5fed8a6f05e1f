package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// errCut is what a step returns that is not taken.
var errCut = errors.New("cut off")

// A gate lets an actor take one step at a time: a round trip to Redis or a
// request to the clock.
type gate struct {
	at      chan string // the kind of the step that the actor stands before; "" at its end
	pass    chan bool   // whether the step is taken
	dead    atomic.Bool // no step is taken any more
	history []answer    // what the actor learned so far
}

// An answer is what a step gave. Only its kind matters in the long run: a turn
// is held for the step to the clock and the one after it.
type answer struct {
	kind string
	turn int64
}

func (g *gate) enter(kind string) error {
	if g.dead.Load() {
		return errCut
	}
	g.at <- kind
	if !<-g.pass {
		return errCut
	}
	return nil
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if isOwn(cmd) { // of the connection
			return next(ctx, cmd)
		}
		if err := g.enter("redis"); err != nil {
			return err
		}
		err := next(ctx, cmd)
		g.take(cmd)
		return err
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if isOwn(cmds[0]) {
			return next(ctx, cmds)
		}
		if err := g.enter("redis"); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			g.take(cmd)
		}
		return err
	}
}

// isOwn tells what the client sends of itself, when it connects.
func isOwn(cmd redis.Cmder) bool { return cmd.Name() != "evalsha" && cmd.Name() != "del" }

// take notes what an actor learned, without instants and tokens.
func (g *gate) take(cmd redis.Cmder) {
	var a answer
	if c, ok := cmd.(*redis.Cmd); ok {
		list, _ := c.Slice() // a lease has other answers
		r := tickReply{reply(list)}
		if a.kind = r.status(); cmd.Args()[2] == 1 && len(r.state()) < 8 {
			a.kind += r.state() + r.text(3)
			a.turn, _ = strconv.ParseInt(r.turn(), 10, 64)
		}
	}
	g.history = append(g.history, a)
}

// A gatedClock is one actor's way to the clock, which is on or off.
type gatedClock struct {
	*gate
	on *bool
}

func (c gatedClock) On(context.Context) error  { return c.turn(true) }
func (c gatedClock) Off(context.Context) error { return c.turn(false) }

func (c gatedClock) turn(on bool) error {
	err := c.enter("clock")
	if err == nil {
		*c.on = on
	}
	c.history = append(c.history, answer{kind: fmt.Sprint(on, err)})
	return err
}

// A choice is who takes the next step, and what becomes of him.
type choice struct {
	actor int
	fault string // "", "dies" or "is refused"
}

// A stage is one Redis, one clock and some actors, each with its own store.
type stage struct {
	t      *testing.T
	raw    *redis.Client
	stores []*Store
	gates  []*gate
	on     bool // the clock
	seen   map[string]bool
	ends   int
}

func newStage(t *testing.T, actors int) *stage {
	t.Helper()
	keys, err := ParseKeys(NewKey())
	ok(t, err)
	url := redistest.Start(t)
	options, err := redis.ParseURL(url)
	ok(t, err)
	s := &stage{t: t, raw: redis.NewClient(options), seen: map[string]bool{}}
	t.Cleanup(func() { _ = s.raw.Close() })
	for range actors {
		g := &gate{at: make(chan string), pass: make(chan bool)}
		g.dead.Store(true)
		store, err := Open(t.Context(), Options{
			URL: url, Keys: keys, Tick: gatedClock{g, &s.on}, Log: slog.New(slog.DiscardHandler),
		})
		ok(t, err)
		t.Cleanup(func() { _ = store.Close() })
		for _, name := range []string{"look", "tick"} { // so that each is one step
			ok(t, store.scripts[name].Load(t.Context(), store.client).Err())
		}
		store.client.AddHook(g)
		s.stores, s.gates = append(s.stores, store), append(s.gates, g)
	}
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A scene is how all began and who acts.
type scene struct {
	recorded, clock bool
	due             bool // something is due already
	actors          []func(*Store)
	faults          int // how many may happen
}

// play takes every way through the scene.
func (s *stage) play(c scene) {
	for open := [][]choice{nil}; len(open) > 0; {
		path := open[len(open)-1]
		open = open[:len(open)-1]
		open = append(open, s.run(c, path)...)
	}
}

// run takes one way, which begins with a path, to its end or to where another
// way was before. It returns the paths that branch off it.
func (s *stage) run(c scene, path []choice) (branches [][]choice) {
	standing := s.begin(c)
	faults := 0
	for step := 0; ; step++ {
		choices := s.choices(standing, c.faults-faults)
		if len(choices) == 0 {
			s.judge(c, path, faults)
			return branches
		}
		if step >= len(path) {
			now := s.key(standing, faults)
			if s.seen[now] {
				s.cut(standing)
				return branches
			}
			s.seen[now] = true
			for _, other := range choices[1:] {
				branches = append(branches, append(append([]choice{}, path...), other))
			}
			path = append(path[:step:step], choices[0])
		}
		next := path[step]
		if next.fault != "" {
			faults++
		}
		g := s.gates[next.actor]
		if next.fault == "dies" {
			g.dead.Store(true)
		}
		g.pass <- next.fault == ""
		standing[next.actor] = <-g.at
	}
}

// begin sets the scene, and returns the step that each actor stands before.
func (s *stage) begin(c scene) (standing []string) {
	ctx := context.Background()
	ok(s.t, s.raw.FlushDB(ctx).Err())
	if c.recorded {
		ok(s.t, s.raw.HSet(ctx, "{mayfly:due}:tick", "state", "on", "turn", 7).Err())
	}
	if c.due {
		ok(s.t, s.raw.ZAdd(ctx, dueKey, redis.Z{Score: 1, Member: "something"}).Err())
	}
	s.on = c.clock
	for n, act := range c.actors {
		g := s.gates[n]
		g.history = nil
		g.dead.Store(false)
		go func() {
			act(s.stores[n])
			g.at <- ""
		}()
		standing = append(standing, <-g.at)
	}
	return standing
}

func (s *stage) choices(standing []string, faults int) (all []choice) {
	for n, kind := range standing {
		if kind != "" {
			all = append(all, choice{n, ""})
		}
	}
	for n, kind := range standing {
		if kind != "" && faults > 0 {
			all = append(all, choice{n, "dies"})
		}
		if kind == "clock" && faults > 0 {
			all = append(all, choice{n, "is refused"})
		}
	}
	return all
}

// key tells apart all that matters for what is to come. Of turns that is only
// how old they are.
func (s *stage) key(standing []string, faults int) string {
	ctx := context.Background()
	tick := s.raw.HGetAll(ctx, "{mayfly:due}:tick").Val()
	turn, _ := strconv.ParseInt(tick["turn"], 10, 64)
	var b strings.Builder
	fmt.Fprint(&b, s.on, tick["state"], s.raw.ZCard(ctx, dueKey).Val(), s.raw.Exists(ctx, tickLeaseKey).Val(), standing, faults)
	for n, kind := range standing {
		if kind == "" {
			continue
		}
		h := s.gates[n].history
		for m, a := range h {
			fmt.Fprint(&b, a.kind, ";")
			if m >= len(h)-2 && a.turn > 0 {
				fmt.Fprint(&b, turn-a.turn)
			}
		}
		b.WriteString("|")
	}
	return b.String()
}

// cut ends all actors where they stand.
func (s *stage) cut(standing []string) {
	for n, kind := range standing {
		for ; kind != ""; kind = <-s.gates[n].at {
			s.gates[n].dead.Store(true)
			s.gates[n].pass <- false
		}
	}
}

// judge looks at how a way ended.
func (s *stage) judge(c scene, path []choice, faults int) {
	s.ends++
	for _, g := range s.gates {
		g.dead.Store(true)
	}
	recorded, due := s.look()
	whole := faults == 0 && (c.clock || !c.recorded)
	if whole && (due || recorded) && !s.on {
		s.t.Errorf("after %v the clock is off; due: %v, recorded on: %v", path, due, recorded)
	}
	s.pass(func(store *Store) error { return store.RepairTick(context.Background()) })
	if recorded, due = s.look(); (due || recorded) && !s.on {
		s.t.Errorf("after %v and reconcile the clock is off; due: %v, recorded on: %v", path, due, recorded)
	}
	ok(s.t, s.raw.Del(context.Background(), dueKey).Err())
	s.pass(func(store *Store) error { return store.RestTick(context.Background()) })
	if recorded, _ = s.look(); recorded || s.on {
		s.t.Errorf("after %v and all is done the clock is %v, recorded %v", path, s.on, recorded)
	}
}

func (s *stage) look() (recorded, due bool) {
	ctx := context.Background()
	return s.raw.HGet(ctx, "{mayfly:due}:tick", "state").Val() == "on", s.raw.ZCard(ctx, dueKey).Val() > 0
}

// pass has a function do its work undisturbed, some time later.
func (s *stage) pass(work func(*Store) error) {
	ok(s.t, s.raw.Del(context.Background(), tickLeaseKey).Err()) // it ran out
	g, done := s.gates[0], make(chan error, 1)
	g.dead.Store(false)
	go func() { done <- work(s.stores[0]) }()
	for {
		select {
		case <-g.at:
			g.pass <- true
		case err := <-done:
			g.dead.Store(true)
			ok(s.t, err)
			return
		}
	}
}

// The actors.

func writes(s *Store) {
	_, _ = s.announce(context.Background(), []call{lookCall(dueEntry{kind: duePool})})
	s.tick.waking.Wait()
}

func rests(s *Store)   { _ = s.RestTick(context.Background()) }
func repairs(s *Store) { _ = s.RepairTick(context.Background()) }

// eats is expire, which moved an entry on to after the next reconcile.
func eats(s *Store) { s.client.Del(context.Background(), dueKey) }

// turnsOff rests without a lease, as if it had run out.
func turnsOff(s *Store) { _ = s.tick.off(context.Background()) }

// TestTickInterleaved takes every order of the steps of those who turn the tick
// on and off. At the end of each it is on if something is due, and never
// recorded to be on while it is off; if somebody died or was refused on the way,
// the next reconcile makes it so. And it goes off once all is done.
func TestTickInterleaved(t *testing.T) {
	t.Parallel()
	type actors = []func(*Store)
	for name, c := range map[string]scene{
		"on, goes off":        {recorded: true, clock: true, actors: actors{writes, rests}, faults: 2},
		"on, nothing to do":   {recorded: true, clock: true, actors: actors{rests, eats}, due: true, faults: 1},
		"off, a late tick":    {actors: actors{writes, rests}, faults: 2},
		"left on":             {clock: true, actors: actors{writes, rests}, faults: 2},
		"left off":            {recorded: true, actors: actors{writes, repairs}, faults: 1},
		"two write":           {recorded: true, clock: true, actors: actors{writes, writes, rests}, faults: 1},
		"two write while off": {actors: actors{writes, writes, rests}},
		"written and eaten":   {recorded: true, clock: true, actors: actors{writes, rests, eats}, faults: 1},
		"reconcile comes by":  {recorded: true, clock: true, actors: actors{writes, rests, repairs}},
		"reconcile dies":      {actors: actors{writes, repairs}, due: true, faults: 1},
		"the lease is lost":   {recorded: true, clock: true, actors: actors{writes, turnsOff, turnsOff}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, len(c.actors))
			s.play(c)
			t.Logf("%d states, %d ends", len(s.seen), s.ends)
		})
	}
}
