package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Load reads what the record asks for now; InstanceNotFound when it is gone.
func (l *lease) Load(ctx context.Context) (ctf.Work, error) {
	began := time.Now()
	r, err := l.store.run(ctx, call{"load", l.prefix, []any{"identity", string(l.key.Identity)}})
	if err != nil {
		return ctf.Work{}, err
	}
	if r.status() != "ok" {
		return ctf.Work{}, ctf.InstanceNotFound(l.key.Challenge.ID, "")
	}
	// A read refreshes nothing: it counts as if the lease ended when it began.
	l.see(r, began.Add(-l.store.leaseTTL))
	c, err := decodeChallenge(r.fields(3))
	if err != nil {
		return ctf.Work{}, err
	}
	record := r.fields(4)
	i, err := decodeInstance(l.store.keys, l.key, record)
	if err != nil {
		return ctf.Work{}, err
	}
	attempt, err := parseNumber(record["attempts"])
	if err != nil {
		return ctf.Work{}, fmt.Errorf("%w: instance %s: the field attempts: %w", ctf.ErrUnreadable, l.key.Identity, err)
	}
	l.mu.Lock()
	l.loaded, l.source, l.generation = i.State, i.Source, c.Generation
	l.mu.Unlock()
	point, err := l.checkpoint(r.text(5), r.strings(6))
	return ctf.Work{Challenge: c, Instance: i, Checkpoint: point, Attempt: attempt, Bare: r.text(7) != ""}, err
}

func (l *lease) checkpoint(base string, entries []string) (point ctf.Checkpoint, err error) {
	if point.Base, err = l.store.unpack(base, l.key, "checkpoint"); err != nil {
		return ctf.Checkpoint{}, err
	}
	for _, entry := range entries {
		plain, err := l.store.unpack(entry, l.key, "journal")
		if err != nil {
			return ctf.Checkpoint{}, err
		}
		point.Journal = append(point.Journal, plain)
	}
	return point, nil
}

// settled runs a script that ends the work, on a context of its own: Redis may
// have done it when the state that the work was held for ends. It announces
// that something may become due, and repeats the script if that came too late.
func (l *lease) settled(ctx context.Context, look dueEntry, script string, args ...any) (reply, hinted, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), callTimeout, ctf.StoreUnavailable(errSilent))
	defer cancel()
	request := string(ctf.NewIdentity())
	for range 2 {
		h, err := l.store.announce(ctx, []call{lookCall(look)})
		if err != nil {
			return nil, h, err
		}
		r, err := l.call(ctx, script, append([]any{"hint", h.at, "request", request}, args...)...)
		if err != nil || r.status() == "ok" {
			return r, h, err
		}
	}
	return nil, hinted{}, ctf.StoreUnavailable(errStale)
}

// Deployed records the result of an Up, see [ctf.Lease]. The state of what it
// returns tells how the instance was left: Deleting when nobody wants it any
// more.
func (l *lease) Deployed(ctx context.Context, w ctf.Work, r ctf.Result) (ctf.Instance, error) {
	look := dueEntry{duePool, l.key.Challenge, ""}
	if w.Instance.Source != "" {
		look = dueEntry{dueSource, l.key.Challenge, string(w.Instance.Source)}
	}
	out, h, err := l.settled(ctx, look, "deployed",
		"state", string(w.Instance.State), "info", sealInfo(l.store.keys, l.key, r),
		"base", l.store.pack(r.Base, l.key, "checkpoint"), "generation", w.Challenge.Generation,
		"reference", w.Challenge.Scenario.Reference, "digest", w.Challenge.Scenario.Digest)
	if err != nil {
		return ctf.Instance{}, err
	}
	f := out.fields(3)
	i, err := decodeInstance(l.store.keys, l.key, f)
	if err != nil {
		return ctf.Instance{}, err
	}
	return i, l.store.sharpen(context.WithoutCancel(ctx), l.key.Challenge, h, string(l.key.Identity), f["ends_at"])
}

// Abandon records that the work failed and how the instance is left; see
// [ctf.Lease]. A pending or deleting instance can only be left deleting, and an
// updating one not at all once the challenge has moved on since Load.
func (l *lease) Abandon(ctx context.Context, state ctf.State, failure string) error {
	switch state {
	case ctf.Ready, ctf.Deleting, ctf.Failed:
	default:
		return fmt.Errorf("abandon instance %s: it can't be left %s", l.key.Identity, state)
	}
	l.mu.Lock()
	loaded, generation := l.loaded, l.generation
	l.mu.Unlock()
	_, _, err := l.settled(ctx, dueEntry{duePool, l.key.Challenge, ""}, "abandon",
		"from", string(loaded), "generation", generation, "to", string(state), "failure", l.sealFailure(failure))
	return err
}

// Strip records that an update destroys what there is; see [ctf.Lease].
func (l *lease) Strip(ctx context.Context) error {
	_, err := l.call(ctx, "strip")
	return err
}

// Excuse has this attempt not count; see [ctf.Lease].
func (l *lease) Excuse(ctx context.Context, w ctf.Work) error {
	_, err := l.call(ctx, "excuse", "attempt", w.Attempt)
	return err
}

func (l *lease) sealFailure(failure string) string {
	if failure == "" {
		return ""
	}
	return string(l.store.keys.Seal([]byte(failure), place(l.key, "failure")))
}

// Lose records that what a ready instance was made of is gone; see [ctf.Lease].
func (l *lease) Lose(ctx context.Context, w ctf.Work, state ctf.State, failure string) error {
	switch state {
	case ctf.Ready, ctf.Updating, ctf.Deleting:
	default:
		return fmt.Errorf("lose instance %s: it can't be left %s", l.key.Identity, state)
	}
	_, _, err := l.settled(ctx, dueEntry{duePool, l.key.Challenge, ""}, "lose",
		"to", string(state), "revision", w.Instance.Revision, "failure", l.sealFailure(failure))
	return err
}

// Replacement reserves the pending half of a blue-green update, or returns the
// one that an interrupted update left.
func (l *lease) Replacement(ctx context.Context) (ctf.Identity, error) {
	r, err := l.call(ctx, "replacement", "half", string(ctf.NewIdentity()))
	if err != nil {
		return "", err
	}
	return ctf.Identity(r.text(3)), nil
}

// Forget removes the record of a deleting instance. Nothing can be written
// under the lease after it.
func (l *lease) Forget(ctx context.Context) error {
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), callTimeout, ctf.StoreUnavailable(errSilent))
	defer cancel()
	l.mu.Lock()
	source := l.source
	l.mu.Unlock()
	if source != "" { // the hint of which leads nowhere soon
		if _, err := l.store.run(bounded, lookCall(dueEntry{dueSource, l.key.Challenge, string(source)})); err != nil {
			return err
		}
	}
	if _, err := l.call(bounded, "forget"); err != nil {
		return err
	}
	// The date alone would turn the fast tick on for nothing; nobody misses it.
	_ = l.store.client.ZRem(bounded, dueKey, dueEntry{dueInstance, l.key.Challenge, string(l.key.Identity)}.member()).Err()
	return nil
}

// Journal returns the journal of an operation that works for the state.
func (l *lease) Journal(state ctf.State) ctf.Journal { return journal{l, state} }

// A journal appends under a lease, see [ctf.Journal].
type journal struct {
	*lease
	state ctf.State
}

// Append stores an entry in one round trip.
func (j journal) Append(ctx context.Context, entry []byte) error {
	j.appends.Lock()
	defer j.appends.Unlock()
	// The number tells a repeated command from a new entry.
	j.number++
	_, err := j.call(ctx, "append", "state", string(j.state), "number", fmt.Sprint(j.fence, ":", j.number),
		"entry", j.store.pack(entry, j.key, "journal"))
	return err
}

// Rebase replaces the base of the checkpoint and drops the journal.
func (j journal) Rebase(ctx context.Context, base []byte) error {
	j.appends.Lock()
	defer j.appends.Unlock()
	_, err := j.call(ctx, "rebase", "state", string(j.state), "base", j.store.pack(base, j.key, "checkpoint"))
	return err
}

// Deadline is when the lease ends unless it is refreshed.
func (j journal) Deadline() time.Time { return j.until() }
