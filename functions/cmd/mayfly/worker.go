package main

import (
	"os"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/process"
)

// maxProcessOutput is how much of what a local process prints is kept, in
// bytes.
const maxProcessOutput = 16 << 20

// newWorkerCommand is what the engine starts this program with, to run the
// operations of a scenario in.
func newWorkerCommand() *cobra.Command {
	options := process.Options{MaxOutput: maxProcessOutput}
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "Run operations of the engine (started by mayfly itself)",
		Hidden: true,
		Args:   cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			os.Exit(engine.Work(cmd.Context(), map[string]func() (plugin.Provider, error){
				process.Package: func() (plugin.Provider, error) { return process.NewProvider(options) },
			}))
		},
	}
	cmd.Flags().StringVar(&options.Directory, "processes", "", "directory of the local processes")
	cmd.Flags().IntVar(&options.MaxProcesses, "max-processes", 0, "local processes in all")
	return cmd
}

// workerCommand returns the program and the arguments that start a worker.
func workerCommand(self, processes, maxProcesses string) []string {
	return []string{self, "worker", "--processes", processes, "--max-processes", maxProcesses}
}
