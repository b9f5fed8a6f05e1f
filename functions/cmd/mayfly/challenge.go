package main

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
)

func newChallengeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "challenge", Short: "Create, show, change and delete challenges", RunE: needSubcommand}
	c := newClient(cmd)
	c.registerOutput(cmd)
	cmd.AddCommand(
		newChallengeCreateCommand(c), newChallengeGetCommand(c), newChallengeListCommand(c),
		newChallengeUpdateCommand(c), newChallengeDeleteCommand(c),
	)
	return cmd
}

func newChallengeCreateCommand(c *client) *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use:   "create ID --scenario REF",
		Short: "Create a challenge",
		Long: `Create a challenge from a scenario. Mayfly tries the scenario before it takes it.
With --dir the directory is pushed to REF first.`,
		Example: `  mayfly challenge create hello --scenario 127.0.0.1:5000/hello:1 --timeout 10m
  mayfly challenge create hello --scenario 127.0.0.1:5000/hello:1 --dir ./hello --min 2 --max 10
  mayfly challenge create hello --scenario 127.0.0.1:5000/hello:1 --until 31-12-2030 --additional level=hard`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if t.scenario == "" {
				return usageError{"--scenario is missing"}
			}
			if err := t.push(cmd.Context(), c); err != nil {
				return err
			}
			made, err := await(cmd.Context(), c, "creating challenge "+args[0], workLimit,
				func(ctx context.Context) (*challengev1.Challenge, error) {
					return c.challenges().CreateChallenge(ctx, t.creation(args[0], cmd.Flags()))
				})
			if err != nil {
				return err
			}
			return c.print(made, func(w io.Writer) { writeChallenge(w, made) })
		},
	}
	t.register(cmd.Flags())
	return cmd
}

func newChallengeGetCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show a challenge and its instances",
		Example: "  mayfly challenge get hello",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := await(cmd.Context(), c, "reading", readLimit,
				func(ctx context.Context) (*challengev1.Challenge, error) {
					return c.challenges().RetrieveChallenge(ctx, &challengev1.RetrieveChallengeRequest{Id: args[0]})
				})
			if err != nil {
				return err
			}
			return c.print(found, func(w io.Writer) { writeChallenge(w, found) })
		},
	}
}

func newChallengeListCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"query"},
		Short:   "List the challenges",
		Example: "  mayfly challenge list\n  mayfly challenge list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := await(cmd.Context(), c, "reading", readLimit,
				func(ctx context.Context) ([]*challengev1.Challenge, error) {
					return collect(c.challenges().QueryChallenge(ctx, &emptypb.Empty{}))
				})
			if err != nil {
				return err
			}
			slices.SortFunc(all, func(a, b *challengev1.Challenge) int { return cmp.Compare(a.GetId(), b.GetId()) })
			return printAll(c, all, func(w io.Writer) { writeChallenges(w, all) })
		},
	}
}

func newChallengeUpdateCommand(c *client) *cobra.Command {
	var t terms
	var r resets
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Change a challenge and its running instances",
		Long: `Change what the flags name, and nothing else. Running instances follow a new
scenario or new additional settings as --strategy says, and get a new end.`,
		Example: `  mayfly challenge update hello --timeout 30m --reset-until
  mayfly challenge update hello --scenario 127.0.0.1:5000/hello:2 --dir ./hello --strategy blue-green`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := t.change(args[0], cmd.Flags(), r)
			if len(req.GetUpdateMask().GetPaths()) == 0 && req.UpdateStrategy == nil {
				return usageError{"nothing to change: give at least one flag"}
			}
			if err := t.push(cmd.Context(), c); err != nil {
				return err
			}
			changed, err := await(cmd.Context(), c, "updating challenge "+args[0], workLimit,
				func(ctx context.Context) (*challengev1.Challenge, error) {
					return c.challenges().UpdateChallenge(ctx, req)
				})
			if err != nil {
				return err
			}
			return c.print(changed, func(w io.Writer) { writeChallenge(w, changed) })
		},
	}
	t.register(cmd.Flags())
	r.register(cmd)
	return cmd
}

func newChallengeDeleteCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a challenge and all its instances",
		Example: "  mayfly challenge delete hello",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := await(cmd.Context(), c, "deleting challenge "+args[0], workLimit,
				func(ctx context.Context) (*emptypb.Empty, error) {
					return c.challenges().DeleteChallenge(ctx, &challengev1.DeleteChallengeRequest{Id: args[0]})
				})
			if err != nil {
				return err
			}
			return c.print(answer, func(w io.Writer) { row(w, "challenge "+args[0]+" deleted") })
		},
	}
}
