package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Hints lie in other slots than the records that they lead to. A verb writes
// its hints, then runs its script with the time of the oldest of them; a script
// that comes more than 25 s later refuses. A reader that finds nothing behind a
// hint takes it away if it was more than a minute old before the reader looked.
// So nothing that is on record is ever without its hint, and neither waits for
// the other. Clocks of cluster nodes may differ by half a minute.

// errStale: the script came too long after its hints.
var errStale = errors.New("the process was held up for long between announcing a step and taking it")

// A hinted is what a verb has to know of the hints that it wrote.
type hinted struct {
	at    string // the oldest
	fires string // when its announcement is looked at; "" without one
	quiet bool   // the fast tick was off when it was announced
}

func hintCall(key string, fields ...string) call {
	args := make([]any, 0, 2*len(fields))
	for _, field := range fields {
		args = append(args, "+field", field)
	}
	return call{"hint", key, args}
}

func lookCall(e dueEntry) call { return call{"look", dueKey, []any{"member", e.String()}} }

// dateCall has an entry looked at right after an instant, or earlier if it is to
// be already.
func dateCall(e dueEntry, at time.Time) call {
	return call{"due_settle", dueKey, []any{"+next", e.member(), "+by", scoreAfter(formatOptionalInstant(&at))}}
}

// announced writes hints and runs the step that they announce, once more if it
// came too late.
func (s *Store) announced(ctx context.Context, hints []call, step func(hinted) call) (reply, hinted, error) {
	for attempt := 1; ; attempt++ {
		h, err := s.announce(ctx, hints)
		if err != nil {
			return nil, h, err
		}
		r, err := s.run(ctx, step(h))
		if err != nil || r.status() != "stale" {
			return r, h, err
		}
		if attempt == 2 {
			return nil, h, ctf.StoreUnavailable(errStale)
		}
	}
}

// announce writes hints. All that comes due later passes here first, so this is
// where the fast tick is turned on.
func (s *Store) announce(ctx context.Context, hints []call) (hinted, error) {
	replies, err := s.runAll(ctx, hints)
	if err != nil {
		return hinted{}, err
	}
	var h hinted
	for _, r := range replies {
		if at := r.text(1); h.at == "" || earlier(at, h.at) {
			h.at = at
		}
		if r.text(2) != "" {
			h.fires, h.quiet = r.text(2), r.text(3) == "off"
		}
	}
	if h.quiet {
		s.tick.wake(ctx)
	}
	return h, nil
}

// earlier compares two instants as scripts write them.
func earlier(a, b string) bool {
	as, an, errA := parseParts(a)
	bs, bn, errB := parseParts(b)
	return errA == nil && errB == nil && (as < bs || as == bs && an < bn)
}

// sharpen adds exact dates for instances that end before the announcement
// fires. The ends are identity and instant in turn.
func (s *Store) sharpen(ctx context.Context, key ctf.ChallengeKey, h hinted, ends ...string) error {
	args := []any{}
	for n := 0; n+1 < len(ends); n += 2 {
		if ends[n+1] != "" && earlier(ends[n+1], h.fires) {
			args = append(args, "+next", dueEntry{dueInstance, key, ends[n]}.member(), "+by", scoreAfter(ends[n+1]))
		}
	}
	if len(args) == 0 {
		return nil
	}
	_, err := s.run(ctx, call{"due_settle", dueKey, args})
	return err
}

// hints yields the fields of an index page by page, and takes away those of
// each page that found nothing.
func (s *Store) hints(ctx context.Context, key string, find func(page []string) (absent []bool, err error)) error {
	seen := map[string]bool{} // a scan may name a field twice
	for cursor := "0"; ; {
		next, err := s.hintPage(ctx, key, cursor, seen, find)
		if err != nil {
			return err
		}
		if cursor = next; cursor == "0" {
			return nil
		}
	}
}

// hintPage is one page of them, and returns the cursor of the next one.
func (s *Store) hintPage(
	ctx context.Context, key, cursor string, seen map[string]bool, find func(page []string) (absent []bool, err error),
) (next string, err error) {
	r, err := s.run(ctx, call{"hint_page", key, []any{"cursor", cursor}})
	if err != nil {
		return "", err
	}
	var page, touched []string
	for found := r.strings(2); len(found) > 0; found = found[2:] {
		if !seen[found[0]] {
			seen[found[0]] = true
			page, touched = append(page, found[0]), append(touched, found[1])
		}
	}
	absent, err := find(page)
	if err != nil {
		return "", err
	}
	return r.text(1), s.unhint(ctx, key, page, touched, absent)
}

func (s *Store) unhint(ctx context.Context, key string, page, touched []string, absent []bool) error {
	var args []any
	for n, field := range page {
		if absent[n] && touched[n] != "" {
			args = append(args, "+field", field, "+touched", touched[n])
		}
	}
	if len(args) == 0 {
		return nil
	}
	_, err := s.run(ctx, call{"unhint", key, args})
	return err
}

// errStopped ends a walk because its reader wants no more.
var errStopped = errors.New("the reader stopped")

// An unread is what a walk met that can't be read.
type unread struct {
	first error
	more  int
}

// note takes down the error of a record that can't be read, and returns any other.
func (u *unread) note(err error) error {
	switch {
	case !errors.Is(err, ctf.ErrUnreadable):
		return err
	case u.first == nil:
		u.first = err
	default:
		u.more++
	}
	return nil
}

// after is how a walk ends that itself ended with err.
func (u *unread) after(err error) error {
	if err != nil || u.more == 0 {
		return cmp.Or(err, u.first)
	}
	return fmt.Errorf("%w; and %d more", u.first, u.more)
}

// sequence makes an iterator of a walk that calls yield for each value and
// returns errStopped once that is false.
func sequence[T any](walk func(yield func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := walk(func(value T) error {
			if !yield(value, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			var none T
			yield(none, err)
		}
	}
}
