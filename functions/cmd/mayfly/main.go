// Command mayfly is all of Mayfly in one program: `mayfly run` serves every
// verb on one port, and the other commands are the client. It knows every
// package it wires together, and holds no rule of the domain.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command that args name and returns the exit code.
func execute(ctx context.Context, args []string, out, diagnostics io.Writer) int {
	root := newRootCommand() //nolint:contextcheck // cobra hands the context to what runs
	begun := false
	onRun(root, func() { begun = true })
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(diagnostics)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !begun { // cobra refused the command line
		err = usageError{err.Error()}
	}
	return report(diagnostics, cmd.CommandPath(), err)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "On-demand, expiring, isolated challenge instances",
		Long: `Mayfly gives each team its own copy of a challenge, and takes it away again.

'mayfly run' starts all of it on this machine. The other commands talk to a
Mayfly that runs somewhere: at --url, or at $MAYFLY_URL, with $MAYFLY_TOKEN if it
asks for one.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists already.`,
		Example: `  mayfly run
  mayfly scenario push ./hello 127.0.0.1:5000/hello:1
  mayfly challenge create hello --scenario 127.0.0.1:5000/hello:1 --timeout 10m
  mayfly instance create hello team-1`,
		Version:       function.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          needSubcommand,
	}
	root.AddCommand(
		newRunCommand(), newServeCommand(), system.NewWorkerCommand(),
		newScenarioCommand(), newChallengeCommand(), newInstanceCommand(),
		newTickCommand("expire", "Destroy what is due now",
			"Have Mayfly destroy every instance whose time is over, once, without waiting for its own tick."),
		newTickCommand("reconcile", "Finish or undo what was interrupted",
			"Have Mayfly look for interrupted work, once, and finish or undo it, and fill pools."),
		newBackupCommand(), newRestoreCommand(),
	)
	return root
}

// onRun calls f before any command of the tree does its work.
func onRun(cmd *cobra.Command, f func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f()
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		onRun(sub, f)
	}
}

// needSubcommand is the work of a command that only groups others.
func needSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())}
	}
	return cmd.Help()
}
