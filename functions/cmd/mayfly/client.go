package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
)

const (
	readLimit = time.Minute
	// workLimit is above what a server works on one request at most.
	workLimit  = 15 * time.Minute
	defaultURL = "http://127.0.0.1:8080"
)

// A client talks to a Mayfly.
type client struct {
	url         string
	format      string
	out         io.Writer
	diagnostics io.Writer
}

// newClient gives cmd and its sub-commands the address flag of a client, which
// is complete once one of them runs.
func newClient(cmd *cobra.Command) *client {
	c := &client{format: formatTable}
	address := defaultURL
	if fromEnv := os.Getenv("MAYFLY_URL"); fromEnv != "" {
		address = fromEnv
	}
	cmd.PersistentFlags().StringVar(&c.url, "url", address, "`address` of Mayfly [$MAYFLY_URL]")
	c.bind(cmd)
	return c
}

// bind lets the client write where cmd writes.
func (c *client) bind(cmd *cobra.Command) {
	cmd.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		c.out, c.diagnostics = cmd.OutOrStdout(), cmd.ErrOrStderr()
		c.url = normalize(c.url)
	}
}

// registerOutput adds the flag that chooses the output format.
func (c *client) registerOutput(cmd *cobra.Command) {
	cmd.PersistentFlags().VarP(choice{&c.format, []string{formatTable, formatJSON}}, "output", "o",
		"`format`: table for people, json for programs")
	complete(cmd, "output", formatTable, formatJSON)
}

// normalize accepts an address without a scheme.
func normalize(address string) string {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	return strings.TrimRight(address, "/")
}

func (c *client) challenges() challengev1connect.ChallengeStoreClient {
	return challengev1connect.NewChallengeStoreClient(tokenBearer(), c.url)
}

func (c *client) instances() instancev1connect.InstanceManagerClient {
	return instancev1connect.NewInstanceManagerClient(tokenBearer(), c.url)
}

// tokenBearer returns a client that shows the token of $MAYFLY_TOKEN, if there
// is one.
func tokenBearer() *http.Client {
	token := function.Token()
	if token == "" {
		return http.DefaultClient
	}
	return &http.Client{Transport: bearer(token)}
}

// A bearer shows itself with every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// await does one thing within the limit, and shows that it goes on.
func await[T any](ctx context.Context, c *client, what string, limit time.Duration, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := showProgress(c.diagnostics, func() string { return what })
	defer stop()
	answer, err := do(ctx)
	if connect.CodeOf(err) == connect.CodeUnavailable && !connect.IsWireError(err) {
		if cause, ok := errors.AsType[*connect.Error](err); ok {
			err = cause.Unwrap()
		}
		return answer, unreachableError{url: c.url, err: err}
	}
	return answer, err
}

// collect reads a stream to its end.
func collect[T any](stream *connect.ServerStreamForClient[T], err error) ([]*T, error) {
	if err != nil {
		return nil, err
	}
	defer stream.Close() //nolint:errcheck // what matters is in Err
	var all []*T
	for stream.Receive() {
		all = append(all, stream.Msg())
	}
	return all, stream.Err()
}

// A choice is a flag with few values.
type choice struct {
	value   *string
	allowed []string
}

// Set takes one of the allowed values.
func (c choice) Set(value string) error {
	if !slices.Contains(c.allowed, value) {
		return errors.New("must be one of " + strings.Join(c.allowed, ", "))
	}
	*c.value = value
	return nil
}

// String returns the value.
func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

// Type names the kind of value in a help text.
func (c choice) Type() string { return "string" }

// complete gives the shell the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails for a flag that does not exist, which the help would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
