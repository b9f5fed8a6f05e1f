package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/deploy/image"
	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// tokenVariable holds what callers must show. It is no flag: others on this
// machine see those.
const tokenVariable = "MAYFLY_TOKEN"

func newUpCommand() *cobra.Command {
	var p packing
	var s selection
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build and push the images, apply the configuration, wait until every function answered",
		Long: `Puts Mayfly onto the cluster that kubectl would use, and returns when every
function answered once. It may be called again: it changes what is not as it is
to be, and removes what the configuration has no more.

MAYFLY_TOKEN is the token that callers must show; --public wants one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			s.options.Token = os.Getenv(tokenVariable)
			if err := s.complete(ctx, p, cmd.ErrOrStderr()); err != nil {
				return err
			}
			cluster, err := install.Connect()
			if err != nil {
				return err
			}
			return cluster.Up(ctx, s.options, cmd.OutOrStdout())
		},
	}
	p.register(cmd.Flags())
	s.register(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Minute, "time it may take; 0 is any")
	return cmd
}

func newDownCommand() *cobra.Command {
	var o install.Options
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove Mayfly, its state and its instances; nothing is left",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			cluster, err := install.Connect()
			if err != nil {
				return err
			}
			return cluster.Down(ctx, o, cmd.OutOrStdout())
		},
	}
	where(cmd, &o)
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Minute, "time it may take; functions end their work first; 0 is any")
	return cmd
}

// A selection is what an operator may choose of the configuration.
type selection struct {
	options install.Options
	redis   string
}

func (s *selection) register(cmd *cobra.Command) {
	o := &s.options
	where(cmd, o)
	cmd.Flags().StringVar(&o.Overlay, "overlay", "local", "folder in config/overlays: local or production")
	cmd.Flags().BoolVar(&o.Public, "public", false, "give the gateway an address outside of the cluster")
	cmd.Flags().StringToStringVar(&o.Images, "image", nil, "image that is pushed already, as api=REFERENCE; the others are built")
	cmd.Flags().StringVar(&s.redis, "redis-image", "", "image of Redis; empty packs this machine's redis-server")
	cmd.Flags().StringToStringVar(&o.Settings, "set", nil, "setting of the functions, as LOG_LEVEL=debug")
}

// where registers what up and down must agree on.
func where(cmd *cobra.Command, o *install.Options) {
	cmd.Flags().StringVar(&o.Config, "config", "config", "directory with base, overlays and components")
	cmd.Flags().StringVar(&o.Namespace, "namespace", install.DefaultNamespace, "namespace of the functions; instances are in NAMESPACE-instances")
}

// complete builds and pushes the images that are not given.
func (s *selection) complete(ctx context.Context, p packing, out io.Writer) error {
	o := &s.options
	if o.Images == nil {
		o.Images = map[string]string{}
	}
	var missing []program
	for _, program := range programs() {
		if _, given := o.Images[program.name]; !given && program.name != allInOne {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		references, err := p.push(ctx, missing, out)
		if err != nil {
			return err
		}
		maps.Copy(o.Images, references)
	}
	if s.redis != "" {
		o.Images["redis"] = s.redis
	}
	if _, given := o.Images["redis"]; given {
		return nil
	}
	reference, err := p.pushRedis(ctx, out)
	if err != nil {
		return fmt.Errorf("%w; --redis-image names an image instead", err)
	}
	o.Images["redis"] = reference
	return nil
}

// allInOne is the program that no function of config uses.
const allInOne = "mayfly"

// pushRedis packs the redis-server of this machine.
func (p *packing) pushRedis(ctx context.Context, out io.Writer) (string, error) {
	if p.registry == "" {
		return "", errors.New("no registry is given: set REGISTRY, as REGISTRY=registry.example/mayfly")
	}
	server, libraries, err := image.FromMachine(ctx, "redis-server")
	if err != nil {
		return "", err
	}
	client, more, err := image.FromMachine(ctx, "redis-cli")
	if err != nil {
		return "", err
	}
	packages, err := image.Fetch(ctx, p.packages, p.mirror, []string{runtime.GOARCH})
	if err != nil {
		return "", err
	}
	extra := append(append(libraries, more...), image.File{Name: "redis-cli", Mode: 0o755, Source: client})
	packed, err := image.Pack(image.Plan{Name: "redis-server", Program: server, Arch: runtime.GOARCH, Extra: extra}, packages)
	if err != nil {
		return "", err
	}
	to := image.Repository{Name: p.registry, Insecure: p.insecure}
	reference, err := to.Push(ctx, "redis", p.tag, map[string]v1.Image{runtime.GOARCH: packed})
	if err == nil {
		fmt.Fprintf(out, "pushed   %s\n", reference)
	}
	return reference, err
}
