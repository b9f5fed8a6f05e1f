package process

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"
)

const (
	// grace is what a program has to end by itself after SIGTERM.
	grace = 5 * time.Second
	// killWait is how long the kernel may take to end what was killed.
	killWait = 10 * time.Second
)

// A family is every process that a record is answerable for. It remembers whom
// it has seen, for a child may outlive those that lead to it.
type family struct {
	record record
	seen   map[pidStart]bool
}

// members returns the living ones: who carries the marker, who is in the
// session of the recorded program as long as that lives, and whose parent is a
// member.
func (f *family) members() ([]pidStart, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	found := make(map[int]pidStart)
	leads := f.leads()
	for _, st := range all {
		if f.seen[st.pidStart] || leads && st.session == f.record.PID ||
			f.record.Marker != "" && hasMarker(st.pid, f.record.Marker) {
			found[st.pid] = st.pidStart
		}
	}
	for grown := true; grown; {
		grown = false
		for _, st := range all {
			_, known := found[st.pid]
			if _, child := found[st.parent]; child && !known {
				found[st.pid], grown = st.pidStart, true
			}
		}
	}
	members := slices.Collect(maps.Values(found))
	for _, m := range members {
		f.seen[m] = true
	}
	return members, nil
}

// leads tells whether the recorded program is there to vouch for its session:
// after it, the number may be that of another one's session. A zombie still
// holds the number.
func (f *family) leads() bool {
	if f.record.PID == 0 {
		return false
	}
	st, err := readStat(f.record.PID)
	return err == nil && st.start == f.record.Start
}

// stop ends every process of the record and returns when all are gone: first
// by SIGTERM with a time of grace, then by SIGKILL. Nothing to stop is no error.
func stop(ctx context.Context, rec record, grace time.Duration) error {
	if boot, err := bootID(); err != nil {
		return err
	} else if rec.BootID != boot {
		return nil // its numbers are other processes' now
	}
	f := &family{record: rec, seen: make(map[pidStart]bool)}
	if grace > 0 {
		if gone, err := f.end(ctx, syscall.SIGTERM, grace); gone || err != nil {
			return err
		}
	}
	gone, err := f.end(ctx, syscall.SIGKILL, killWait)
	if err == nil && !gone {
		err = fmt.Errorf("process %d is still there %v after it was killed", rec.PID, killWait)
	}
	return err
}

// end signals each member once, and whoever joins meanwhile, until none is
// left or the time is over.
func (f *family) end(ctx context.Context, sig syscall.Signal, within time.Duration) (gone bool, err error) {
	deadline := time.Now().Add(within)
	signaled := make(map[pidStart]bool)
	for {
		members, err := f.members()
		if err != nil || len(members) == 0 {
			return err == nil, err
		}
		for _, m := range members {
			if signaled[m] {
				continue
			}
			signaled[m] = true
			if err := m.signal(sig); err != nil {
				return false, err
			}
		}
		if over, err := waitGone(ctx, members, deadline); over || err != nil {
			return false, err
		}
	}
}

// waitGone waits for known processes, which is cheaper than a look at all.
func waitGone(ctx context.Context, members []pidStart, deadline time.Time) (over bool, err error) {
	wait := time.Millisecond
	for slices.ContainsFunc(members, pidStart.alive) {
		if time.Now().After(deadline) {
			return true, nil
		}
		if err := pause(ctx, wait); err != nil {
			return false, err
		}
		wait = min(2*wait, 20*time.Millisecond)
	}
	return false, nil
}
