package system

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
)

// NewWorkerCommand is what the engine starts this program with, to run the
// operations of a scenario in.
func NewWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "worker PLATFORM",
		Short:  "Run operations of the engine (started by mayfly itself)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p Platform
			if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
				return fmt.Errorf("read the description of the platform: %w", err)
			}
			providers, err := p.providers()
			if err != nil {
				return err
			}
			if !p.Kubernetes {
				missing := fmt.Errorf("%w: its operator starts it with --kubernetes", engine.ErrNotOffered)
				providers[kubernetes.Package] = func() (plugin.Provider, error) { return nil, missing }
			}
			os.Exit(engine.Work(cmd.Context(), providers, p.manifests()))
			return nil
		},
	}
}
