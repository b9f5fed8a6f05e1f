package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

func newRenderCommand() *cobra.Command {
	var p packing
	var s selection
	var dir string
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Write what up applies, one file for each object, and touch no cluster",
		Long: `Writes what up applies into a directory, one file KIND-NAME.yaml for each object:
for kubectl, kn and what else puts objects onto a cluster. The Secrets redis and
keys, and token if callers must show one, are not among them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.complete(cmd.Context(), p, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return render(s.options, dir)
		},
	}
	p.register(cmd.Flags())
	s.register(cmd)
	cmd.Flags().StringVar(&dir, "out", filepath.Join(".bin", "config"), "directory to write to")
	return cmd
}

func render(o install.Options, dir string) error {
	objects, err := install.Render(o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return fmt.Errorf("write %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		name := strings.ToLower(object.GetKind()) + "-" + object.GetName() + ".yaml"
		if group := object.GroupVersionKind().Group; group == "" { // a Service is also what Knative calls its functions
			name = "core-" + name
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
