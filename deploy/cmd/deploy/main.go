// Command deploy packs the images of Mayfly, puts it onto a cluster that has
// Knative, and takes it off again. It is run from the directory of go.work,
// most easily by `make images`, `make up` and `make down`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "deploy",
		Short: "Pack Mayfly, and put it onto a cluster with Knative",
		Long: `Packs Mayfly into container images and puts it onto the cluster that kubectl
would use. Each flag can be set by an environment variable of its name instead:
--registry by REGISTRY, --redis-image by REDIS_IMAGE.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags())
		},
	}
	root.AddCommand(newImagesCommand(), newUpCommand(), newDownCommand(), newRenderCommand())
	return root
}

// fromEnvironment sets every flag that the command line does not and the
// environment does.
func fromEnvironment(flags *pflag.FlagSet) (failed error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := os.Getenv(name)
		if f.Changed || value == "" || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	return failed
}

// within bounds a command's work by its flag --timeout.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}
