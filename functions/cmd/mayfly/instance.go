package main

import (
	"cmp"
	"context"
	"io"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/emptypb"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

func newInstanceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "instance", Short: "Create, show, renew and delete instances", RunE: needSubcommand}
	c := newClient(cmd)
	c.registerOutput(cmd)
	cmd.AddCommand(
		newInstanceCreateCommand(c), newInstanceGetCommand(c), newInstanceListCommand(c),
		newInstanceRenewCommand(c), newInstanceDeleteCommand(c),
	)
	return cmd
}

func newInstanceCreateCommand(c *client) *cobra.Command {
	req := &instancev1.CreateInstanceRequest{}
	var key string
	cmd := &cobra.Command{
		Use:   "create CHALLENGE SOURCE",
		Short: "Give a source its instance of a challenge",
		Long: `Give a source (a team or a user) its instance of a challenge, and wait until it
is ready. With the same --idempotency-key a repeated call returns the instance
that the first one made.`,
		Example: `  mayfly instance create hello team-1
  mayfly instance create hello team-1 --idempotency-key "$REQUEST_ID" -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.ChallengeId, req.SourceId = args[0], args[1]
			made, err := await(cmd.Context(), c, "creating the instance", workLimit,
				func(ctx context.Context) (*instancev1.Instance, error) {
					ctx, call := connect.NewClientContext(ctx)
					if key != "" {
						call.RequestHeader().Set("Idempotency-Key", key)
					}
					return c.instances().CreateInstance(ctx, req)
				})
			return c.printInstance(made, err)
		},
	}
	registerAdditional(cmd.Flags(), &req.Additional, "`key=value` that the scenario gets, before the challenge's own; may be repeated")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "`key` that makes a repeated call harmless")
	return cmd
}

func newInstanceGetCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "get CHALLENGE SOURCE",
		Short:   "Show an instance",
		Example: "  mayfly instance get hello team-1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.printInstance(await(cmd.Context(), c, "reading", readLimit,
				func(ctx context.Context) (*instancev1.Instance, error) {
					return c.instances().RetrieveInstance(ctx, &instancev1.RetrieveInstanceRequest{ChallengeId: args[0], SourceId: args[1]})
				}))
		},
	}
}

func newInstanceListCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "list SOURCE",
		Aliases: []string{"query"},
		Short:   "List the instances of a source, over all challenges",
		Long: `List the instances of a source, over all challenges. 'mayfly challenge get' lists
those of a challenge.`,
		Example: "  mayfly instance list team-1\n  mayfly instance list team-1 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := await(cmd.Context(), c, "reading", readLimit,
				func(ctx context.Context) ([]*instancev1.Instance, error) {
					return collect(c.instances().QueryInstance(ctx, &instancev1.QueryInstanceRequest{SourceId: args[0]}))
				})
			if err != nil {
				return err
			}
			slices.SortFunc(all, func(a, b *instancev1.Instance) int { return cmp.Compare(a.GetChallengeId(), b.GetChallengeId()) })
			return printAll(c, all, func(w io.Writer) { writeInstances(w, all) })
		},
	}
}

func newInstanceRenewCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "renew CHALLENGE SOURCE",
		Short:   "Give an instance its full time again",
		Example: "  mayfly instance renew hello team-1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.printInstance(await(cmd.Context(), c, "renewing", readLimit,
				func(ctx context.Context) (*instancev1.Instance, error) {
					return c.instances().RenewInstance(ctx, &instancev1.RenewInstanceRequest{ChallengeId: args[0], SourceId: args[1]})
				}))
		},
	}
}

func newInstanceDeleteCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "delete CHALLENGE SOURCE",
		Short:   "Destroy an instance",
		Example: "  mayfly instance delete hello team-1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := await(cmd.Context(), c, "deleting the instance", workLimit,
				func(ctx context.Context) (*emptypb.Empty, error) {
					return c.instances().DeleteInstance(ctx, &instancev1.DeleteInstanceRequest{ChallengeId: args[0], SourceId: args[1]})
				})
			if err != nil {
				return err
			}
			return c.print(answer, func(w io.Writer) { row(w, "instance of "+args[0]+" for "+args[1]+" deleted") })
		},
	}
}

// printInstance passes an error on.
func (c *client) printInstance(i *instancev1.Instance, err error) error {
	if err != nil {
		return err
	}
	return c.print(i, func(w io.Writer) { writeInstance(w, i) })
}
