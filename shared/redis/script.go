package redis

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

//go:embed scripts/*.lua
var sources embed.FS

// loadScripts reads every script, with the schema and the rules in front of each.
func loadScripts() (map[string]*redis.Script, error) {
	rules, err := sources.ReadFile("scripts/rules.lua")
	if err != nil {
		return nil, err
	}
	entries, err := sources.ReadDir("scripts")
	if err != nil {
		return nil, err
	}
	scripts := map[string]*redis.Script{}
	for _, entry := range entries {
		body, err := sources.ReadFile(path.Join("scripts", entry.Name()))
		if err != nil {
			return nil, err
		}
		scripts[strings.TrimSuffix(entry.Name(), ".lua")] = redis.NewScript(fmt.Sprintf("local schema = %d\n%s%s", schema, rules, body))
	}
	return scripts, nil
}

// A call is one run of a script: its name, its only key, and names and values.
type call struct {
	script, key string
	args        []any
}

// A reply is what a script returned: a word, and what belongs to it.
type reply []any

func (r reply) status() string { return r.text(0) }

// text returns an element, "" if there is none: numbers come as text too.
func (r reply) text(n int) string {
	if n >= len(r) {
		return ""
	}
	switch v := r[n].(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

func (r reply) list(n int) reply {
	if n >= len(r) {
		return nil
	}
	list, _ := r[n].([]any) // the scripts are ours: what is not a list is none
	return list
}

func (r reply) strings(n int) []string {
	list := r.list(n)
	out := make([]string, len(list))
	for i := range list {
		out[i] = list.text(i)
	}
	return out
}

// fields reads a list of names and values.
func (r reply) fields(n int) fields {
	list := r.list(n)
	f := make(fields, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		f[list.text(i)] = list.text(i + 1)
	}
	return f
}

func (s *Store) argv(c call) []any {
	return append([]any{formatSpan(time.Duration(s.shift.Load()))}, c.args...)
}

// run runs one script in one round trip. A script that Redis does not know, as
// after a restart, is sent whole.
func (s *Store) run(ctx context.Context, c call) (reply, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out []any
	var err error
	if s.wait > 0 && isPromise(c.script) {
		out, err = s.waited(bounded, c)
	} else {
		out, err = s.scripts[c.script].Run(bounded, s.client, []string{c.key}, s.argv(c)...).Slice()
	}
	if err != nil {
		return nil, failure(ctx, c.script, err)
	}
	return out, nil
}

// runAll runs scripts in one round trip, in no order.
func (s *Store) runAll(ctx context.Context, calls []call) ([]reply, error) {
	replies, failures := s.runEach(ctx, calls)
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return replies, nil
}

// runEach is runAll, with an error for each script.
func (s *Store) runEach(ctx context.Context, calls []call) ([]reply, []error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	replies, failures := make([]reply, len(calls)), make([]error, len(calls))
	commands := make([]*redis.Cmd, len(calls))
	_, _ = s.client.Pipelined(bounded, func(p redis.Pipeliner) error {
		for n, c := range calls {
			commands[n] = s.scripts[c.script].EvalSha(bounded, p, []string{c.key}, s.argv(c)...)
		}
		return nil // each command keeps its own error
	})
	for n, command := range commands {
		out, err := command.Slice()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			out, err = s.scripts[calls[n].script].Eval(bounded, s.client, []string{calls[n].key}, s.argv(calls[n])...).Slice()
		}
		replies[n], failures[n] = out, failure(ctx, calls[n].script, err)
	}
	return replies, failures
}

// errSilent: Redis took what it was sent, or not even that, and did not answer.
var errSilent = errors.New("redis does not answer")

// failure turns an error of Redis into one of the domain; ctx is the caller's,
// without the bound of a single call.
func failure(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("redis: %s: %w", what, context.Cause(ctx))
	case strings.Contains(err.Error(), "NEWERSCHEMA"):
		return unreadable(what, err)
	case isAway(err):
		return ctf.StoreUnavailable(fmt.Errorf("redis: %s: %w", what, err))
	case strings.Contains(err.Error(), "user_script"): // a script can't make sense of what it read
		return unreadable(what, err)
	}
	return fmt.Errorf("redis: %s: %w", what, err)
}

// unreadable is what a script says of a record that it can't read.
func unreadable(what string, err error) error {
	if strings.Contains(err.Error(), "NEWERSCHEMA") {
		return newerSchema(fmt.Errorf("redis: %s: %w", what, err))
	}
	return fmt.Errorf("%w: redis: %s: %w", ctf.ErrUnreadable, what, err)
}

// isAway tells whether Redis could not be reached or can't serve now.
func isAway(err error) bool {
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed) {
		return true
	}
	for _, word := range []string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS"} {
		// Redis 6.2 reports what a script met behind words of its own.
		if redis.HasErrorPrefix(err, word) || strings.Contains(err.Error(), "-"+word+" ") {
			return true
		}
	}
	// A slot is on its way to another node; Sentinel has no answer.
	return strings.Contains(err.Error(), "non local key") || strings.Contains(err.Error(), "all sentinels")
}

func unexpected(c string, r reply) error {
	return fmt.Errorf("redis: %s: unexpected answer %q", c, r.status())
}
