//go:build faults

package main_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// A fault breaks something and returns what mends it; nil is what mends itself.
type fault struct {
	name   string
	strike func(*faultSite) (mend func())
	// servers is how many there are, one if it is 0.
	servers int
	// failing are the reasons with which deployments fail, because what they need
	// breaks.
	failing []string
	// calm is between two strikes, beside what is random.
	calm time.Duration
	// around: it breaks what Mayfly needs, for as long as it is not mended. away: it
	// takes Redis away, so that nothing else can be mended before.
	around, away bool
	// mixed: it may be anything, so that nothing certain comes of it.
	mixed bool
	// leaving: every other call is left by its caller.
	leaving bool
	// events go through the broker, and the cache is on a small disk.
	events, disk bool
	// cluster: instances are objects of one, whose API server breaks.
	cluster bool
	// lost is what is done with instances of which nothing is left: they are shown, so
	// that the audit sees them, unless it says otherwise.
	lost string
	// met counts who met it, where a strike may come to nothing; nil is that each
	// does what it says.
	met func(*faultSite) int64
}

// leaveWithin is how soon a caller leaves who does.
const leaveWithin = time.Second

// leaveOne is in how many callers one leaves.
func (what fault) leaveOne() int {
	if what.leaving {
		return 2
	}
	return 8
}

// waits is how long a caller waits for an answer.
func (what fault) waits(random *rand.Rand) time.Duration {
	if random.IntN(what.leaveOne()) == 0 {
		return time.Duration(random.Int64N(int64(leaveWithin)))
	}
	return patience
}

// deploymentFailed is what is told to who waited for what somebody else deployed.
const deploymentFailed = "DEPLOYMENT_FAILED"

func everyFault() []fault {
	return []fault{
		{name: "mayfly killed", strike: func(f *faultSite) func() {
			return f.restart((*server).Kill)
		}},
		{name: "mayfly killed at a command to redis", strike: func(f *faultSite) func() {
			return f.restart(f.dieAtCommand)
		}},
		{name: "mayfly told to stop", strike: func(f *faultSite) func() {
			return f.restart(f.terminate)
		}},
		// A server that is stopped most of the time answers late, and that is no mistake.
		{name: "mayfly held up for longer than a lease", servers: 2, calm: 5 * time.Second, strike: holdUp},
		// A busy machine takes seconds to start a worker: one that never gets to do
		// anything shows nothing.
		{name: "workers killed", calm: 4 * time.Second, strike: killWorkers, met: func(f *faultSite) int64 { return f.killed }},
		{name: "instances killed", lost: "repair", calm: 2 * time.Second, strike: killInstance, met: func(f *faultSite) int64 { return f.killed }},
		{name: "redis killed", away: true, strike: func(f *faultSite) func() { f.database.Kill(); return f.database.Restart }},
		// Whoever waited is answered before it hangs again.
		{name: "redis hangs for longer than a lease", away: true, calm: 2 * time.Second, strike: func(f *faultSite) func() {
			f.database.Pause()
			<-time.After(heldUp) // how long it lasts
			return f.database.Resume
		}},
		{name: "redis full", around: true, met: refused("OOM"), strike: func(f *faultSite) func() {
			f.redis("CONFIG", "SET", "maxmemory", "1")
			return func() { f.redis("CONFIG", "SET", "maxmemory", "0") }
		}},
		{name: "connections to redis cut", around: true, met: onTheLink, strike: func(f *faultSite) func() { f.link.cut(); return nil }},
		{name: "redis slow", around: true, met: onTheLink, strike: func(f *faultSite) func() {
			f.link.slow.Store(int64(100 * time.Millisecond))
			return func() { f.link.slow.Store(0) }
		}},
		{name: "scripts flushed", around: true, met: refused("NOSCRIPT"), strike: func(f *faultSite) func() { f.redis("SCRIPT", "FLUSH"); return nil }},
		{name: "registry away", around: true, met: atTheRegistry, failing: []string{"OCI_INTERACTION", deploymentFailed}, strike: func(f *faultSite) func() {
			f.registry.away.Store(true)
			f.restartEmpty(func(*server) {})
			return func() { f.registry.away.Store(false) }
		}},
		{name: "registry damages content", around: true, met: atTheRegistry, failing: []string{"OCI_INTERACTION", deploymentFailed}, strike: func(f *faultSite) func() {
			f.registry.damaged.Store(true)
			f.restartEmpty(func(*server) {})
			return func() { f.registry.damaged.Store(false) }
		}},
		// Whose disk it is has to look: to callers it is internal.
		{name: "disk of the cache full", around: true, failing: []string{"INTERNAL_ERROR", deploymentFailed}, disk: true, strike: func(f *faultSite) func() {
			s := f.restartEmpty(func(s *server) { fillCache(f.t, s) })
			return func() { freeCache(f.t, s) }
		}},
		{name: "clocks apart", servers: 2, strike: clocksApart},
		{name: "events lost, doubled and late", around: true, events: true, met: func(f *faultSite) int64 { return f.broker.count() }, strike: func(f *faultSite) func() {
			f.broker.set(true)
			return func() { f.broker.set(false) }
		}},
		{name: "callers leave", leaving: true, strike: func(*faultSite) func() { return nil }}, // see [times]
	}
}

func onTheLink(f *faultSite) int64     { return f.link.broken.Load() }
func atTheRegistry(f *faultSite) int64 { return f.registry.broken.Load() }

func refused(kind string) func(*faultSite) int64 {
	return func(f *faultSite) int64 { return f.refused(kind) }
}

// times is how many strikes somebody met, by what was met until each of them and
// until the end; of callers who leave, how many there were.
func (what fault) times(met []int64, calls []faults.Call) (n int) {
	if !what.leaving {
		return len(slices.Compact(met)) - 1
	}
	for _, c := range calls {
		if c.Left {
			n++
		}
	}
	return n
}

// mixedFaults are two of them at once: while something around Mayfly is broken it
// dies or hangs itself, or Redis does. The disk has a row of its own, for it alone
// excuses what else is a mistake, and so has the API server, which needs a cluster.
func mixedFaults(all []fault) []fault {
	var inside, around, disk, api []fault
	for _, f := range all {
		switch {
		case f.leaving, f.lost != "": // one in eight callers leaves in any case, and losses are shown
		case f.disk:
			disk = append(disk, f)
		case f.cluster:
			api = append(api, f)
		case f.around:
			around = append(around, f)
		default:
			inside = append(inside, f)
		}
	}
	mixed := []fault{
		both("any of these", fault{events: true}, around, inside),
		both("disk of the cache full, and any", fault{disk: true}, disk, inside),
	}
	if len(api) > 0 {
		mixed = append(mixed, both("API server broken, and any", fault{cluster: true}, api, inside))
	}
	return mixed
}

// both is one of each at once.
func both(name string, mixed fault, around, inside []fault) fault {
	mixed.name, mixed.mixed, mixed.servers, mixed.calm = name, true, 2, 3*time.Second
	for _, f := range around {
		mixed.failing = append(mixed.failing, f.failing...)
		mixed.calm = max(mixed.calm, f.calm)
	}
	mixed.strike = func(f *faultSite) (mend func()) {
		one, other := around[f.random.IntN(len(around))], inside[f.random.IntN(len(inside))]
		f.t.Logf("%v: %s, and %s", time.Since(f.began).Round(time.Millisecond), one.name, other.name)
		mends := []func(){one.strike(f), other.strike(f)} // a server starts when all around it is well
		if other.away {
			slices.Reverse(mends)
		}
		return func() {
			for _, mend := range mends {
				if mend != nil {
					mend()
				}
			}
		}
	}
	return mixed
}

// restart ends a server; what mends that starts it again.
func (f *faultSite) restart(end func(*server)) (mend func()) {
	s := f.any()
	end(s)
	f.died()
	return func() { f.start(s) }
}

// restartEmpty has a server begin with an empty cache, as a new one does, after
// something was done to it.
func (f *faultSite) restartEmpty(after func(*server)) *server {
	s := f.any()
	s.Kill()
	f.died()
	emptyCache(f.t, s)
	after(s)
	f.start(s)
	return s
}

// holdUp stops a server, workers aside, until its leases have run out and the
// other one has done its work.
func holdUp(f *faultSite) func() {
	held := f.random.IntN(2)
	s, other := f.servers[held], f.servers[1-held]
	ok(f.t, s.cmd.Process.Signal(syscall.SIGSTOP))
	<-time.After(heldUp)                        // how long it lasts, at least
	_ = wake(f.t.Context(), other, "reconcile") // something else may be broken, too
	return func() { ok(f.t, s.cmd.Process.Signal(syscall.SIGCONT)) }
}

// killWorkers kills some of a server's, and waits until there is one.
func killWorkers(f *faultSite) func() {
	s := f.any()
	var all []int
	eventually(f.t, "there is a worker", func() error {
		if all = s.Workers(); len(all) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	f.random.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	for _, pid := range all[:1+f.random.IntN(len(all))] {
		if syscall.Kill(pid, syscall.SIGKILL) == nil { // else it has ended
			f.killed++
		}
	}
	return nil
}

// killInstance kills what runs of an instance that nobody is at. One is left: of a
// platform that has lost them all nothing is believed.
func killInstance(f *faultSite) func() {
	running := f.running()
	for _, id := range f.challenges {
		for entry, err := range f.store.All(f.t.Context(), challengeKey(id)) {
			ok(f.t, err)
			parts := running[string(entry.Instance.Key.Identity)]
			if entry.Instance.State != ctf.Ready || entry.Leased || len(parts) != f.parts || len(running) < 2 {
				continue
			}
			for _, part := range parts {
				pid, err := strconv.Atoi(part)
				ok(f.t, err)
				if syscall.Kill(pid, syscall.SIGKILL) == nil { // else it has ended
					f.killed++
				}
			}
			return nil
		}
	}
	return nil
}

// clocksApart has one of the servers believe that it is minutes earlier or later.
func clocksApart(f *faultSite) func() {
	by := time.Duration(2+f.random.IntN(10)) * time.Minute
	if f.random.IntN(2) == 0 {
		by = -by
	}
	s := f.servers[len(f.servers)-1]
	f.terminate(s)
	s.env = append(s.env, "FAULTS_CLOCK="+by.String())
	return func() { f.start(s) }
}
