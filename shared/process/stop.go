package process

import (
	"context"
	"fmt"
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
// it has seen and in which sessions, for a child may outlive those that lead to
// it, and may be born while its parent is being stopped.
type family struct {
	record   record
	seen     map[pidStart]bool
	sessions map[int]bool
}

// members returns the living ones: who carries the marker, who is in a session
// of a member, and whose parent is a member. A child escapes if it drops the
// marker, begins a session and loses its parent, all of it between two looks.
func (f *family) members() ([]pidStart, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	f.checkSessions(all)
	found := make(map[int]stat)
	for _, st := range all {
		if f.seen[st.pidStart] || f.sessions[st.session] || f.record.Marker != "" && hasMarker(st.pid, f.record.Marker) {
			found[st.pid] = st
		}
	}
	for grown := true; grown; {
		grown = false
		for _, st := range all {
			_, known := found[st.pid]
			if _, child := found[st.parent]; child && !known {
				found[st.pid], grown = st, true
			}
		}
	}
	members := make([]pidStart, 0, len(found))
	for _, st := range found {
		members = append(members, st.pidStart)
		f.seen[st.pidStart] = true
		f.sessions[st.session] = true
	}
	return members, nil
}

// checkSessions adds the session of the recorded program if that is there to
// vouch for it, as a zombie too, and forgets those whose number is another
// process's by now.
func (f *family) checkSessions(all []stat) {
	recorded := f.record.process()
	if st, err := readStat(recorded.pid); err == nil && recorded.pid != 0 && st.pidStart == recorded {
		f.sessions[recorded.pid] = true
	}
	for _, st := range all {
		if st.session == st.pid && st.pidStart != recorded && !f.seen[st.pidStart] {
			delete(f.sessions, st.pid)
		}
	}
}

// stop ends every process of the record and returns when all are gone: first
// by SIGTERM with a time of grace, then by SIGKILL. Nothing to stop is no error.
func stop(ctx context.Context, rec record, grace time.Duration) error {
	if boot, err := bootID(); err != nil {
		return err
	} else if rec.BootID != boot {
		return nil // its numbers are other processes' now
	}
	f := &family{record: rec, seen: make(map[pidStart]bool), sessions: make(map[int]bool)}
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
