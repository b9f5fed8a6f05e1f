package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Pending returns up to a hundred events of a challenge, oldest first; see
// [ctf.Outbox]. An outbox keeps about the last ten thousand.
func (s *Store) Pending(ctx context.Context, key ctf.ChallengeKey, after string) (events []ctf.Event, last string, err error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	from := "-"
	if after != "" {
		from = "(" + after
	}
	entries, err := s.client.XRangeN(bounded, challengePrefix(key)+"o", from, "+", pageSize).Result()
	if err != nil {
		return nil, "", failure(ctx, "read the outbox", err)
	}
	last = after
	for _, entry := range entries {
		e, err := decodeEvent(key, entry.Values)
		if err != nil {
			return nil, "", err
		}
		events, last = append(events, e), entry.ID
	}
	return events, last, nil
}

func decodeEvent(key ctf.ChallengeKey, values map[string]any) (ctf.Event, error) {
	text := func(name string) string {
		value, _ := values[name].(string) // what is missing is ""
		return value
	}
	at, err := parseInstant(text("at"))
	if err != nil {
		return ctf.Event{}, fmt.Errorf("read an event: %w", err)
	}
	_, number, _ := strings.Cut(text("id"), "/")
	revision, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return ctf.Event{}, fmt.Errorf("read an event: %w", err)
	}
	return ctf.Event{
		ID: text("id"), Type: ctf.EventType(text("type")), Challenge: key,
		Identity: ctf.Identity(text("identity")), Revision: revision, At: at,
	}, nil
}

// HandOn tells by an event that work on a challenge is left, see [ctf.Relay].
func (s *Store) HandOn(ctx context.Context, key ctf.ChallengeKey) error {
	_, err := s.run(ctx, call{"hand_on", challengePrefix(key), nil})
	return err
}

// Published drops events. Those that are not there are ignored.
func (s *Store) Published(ctx context.Context, key ctf.ChallengeKey, events []ctf.Event) error {
	if len(events) == 0 {
		return nil
	}
	args := make([]any, 0, 2*len(events))
	for _, e := range events {
		args = append(args, "+id", e.ID)
	}
	_, err := s.run(ctx, call{"published", challengePrefix(key), args})
	return err
}
