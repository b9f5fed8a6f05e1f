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
would use. Some flags can be set by an environment variable instead, as of make:
` + strings.Join(variables(), ", ") + `.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags())
		},
	}
	root.AddCommand(newImagesCommand(programs()), newUpCommand(), newDownCommand(), newRenderCommand())
	return root
}

// variables are the environment variables that set a flag of their name: what
// `make up` is told. No others do, or a TIMEOUT, CONFIG or TAG that a shell has
// for another program would change what is installed.
func variables() []string {
	return []string{"REGISTRY", "OVERLAY", "NAMESPACE", "PUBLIC", "DOMAIN", "SET", "REDIS_IMAGE", "REDIS_VOLUME"}
}

// fromEnvironment sets the flags that the command line does not and the
// environment may.
func fromEnvironment(flags *pflag.FlagSet) error {
	for _, name := range variables() {
		f := flags.Lookup(strings.ToLower(strings.ReplaceAll(name, "_", "-")))
		value := os.Getenv(name)
		if f == nil || f.Changed || value == "" {
			continue
		}
		if err := flags.Set(f.Name, value); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

// within bounds a command's work by its flag --timeout.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}
