package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
		Long: `Writes what up applies into a directory, one file KIND-NAME.yaml for each object,
or KIND-NAME.NAMESPACE.yaml for what is not where the functions are: for kubectl,
kn and what else puts objects onto a cluster. Images that are not given are built
and pushed to the registry, as up does. MAYFLY_REDIS_ADDRESS leaves Redis out.

What up learns from the cluster is not among them: the Secrets redis and keys,
and token if callers must show one; the mark of these Secrets on the functions,
by which another secret makes new pods; and a volume for Redis of the overlay
local where a StorageClass is the default, which --redis-volume adds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			planned, err := s.plan(p)
			if err != nil {
				return err
			}
			if _, err := install.Render(planned); err != nil {
				return err
			}
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
		if err := os.WriteFile(filepath.Join(dir, fileOf(object, o.Namespace)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// fileOf is the name of an object's file, another one for each.
func fileOf(object *unstructured.Unstructured, functions string) string {
	name := strings.ToLower(object.GetKind()) + "-" + object.GetName()
	if object.GroupVersionKind().Group == "" { // a Service is also what Knative calls its functions
		name = "core-" + name
	}
	if namespace := object.GetNamespace(); namespace != "" && namespace != functions {
		name += "." + namespace
	}
	return name + ".yaml"
}
