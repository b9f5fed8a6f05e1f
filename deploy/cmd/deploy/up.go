package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/deploy/image"
	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// These are secrets and no flags: others on this machine see those.
const (
	// tokenVariable holds what callers must show.
	tokenVariable = "MAYFLY_TOKEN"
	// redisVariable holds the address of a Redis that is there already.
	redisVariable = "MAYFLY_REDIS_ADDRESS"
	// registryVariable holds the password of the user OCI_USERNAME.
	registryVariable = "MAYFLY_REGISTRY_PASSWORD"
)

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

MAYFLY_TOKEN is the token that callers must show; --public and --domain want
one. MAYFLY_REDIS_ADDRESS is the address of a Redis that is there already, as
rediss://:PASSWORD@HOST:6380, instead of one that is made.
MAYFLY_REGISTRY_PASSWORD is that of the settings OCI_USERNAME and OCI_REGISTRY.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			planned, err := s.plan(p)
			if err != nil {
				return err
			}
			cluster, err := install.Connect()
			if err != nil {
				return err
			}
			if err := cluster.Check(ctx, planned); err != nil {
				return err
			}
			if err := s.complete(ctx, p, cmd.ErrOrStderr()); err != nil {
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
	cmd.Flags().StringVar(&o.Domain, "domain", "", "host of yours at which the gateway is reached from outside, by a DomainMapping")
	cmd.Flags().BoolVar(&o.Volume, "redis-volume", false, "give Redis of the overlay local a volume also where no StorageClass is the default, and somebody makes one for the claim data-redis-0")
	cmd.Flags().StringToStringVar(&o.Images, "image", nil, "image that is pushed already, as api=REFERENCE; the others are built")
	cmd.Flags().StringVar(&s.redis, "redis-image", "", "image of Redis; empty packs this machine's redis-server")
	cmd.Flags().StringToStringVar(&o.Settings, "set", nil, "setting of the functions, as LOG_LEVEL=debug")
}

// where registers what up and down must agree on.
func where(cmd *cobra.Command, o *install.Options) {
	cmd.Flags().StringVar(&o.Config, "config", "config", "directory with base, overlays and components")
	cmd.Flags().StringVar(&o.Namespace, "namespace", install.DefaultNamespace, "namespace of the functions; instances are in NAMESPACE-instances")
}

// plan reads what is secret, and returns the options with the names that the
// images get which are not given: all can be checked before they are built.
func (s *selection) plan(p packing) (install.Options, error) {
	s.options.Token, s.options.Redis = os.Getenv(tokenVariable), os.Getenv(redisVariable)
	s.options.RegistryPassword = os.Getenv(registryVariable)
	if s.redis != "" {
		s.options.Images = merged(s.options.Images, map[string]string{"redis": s.redis})
	}
	planned := s.options
	for _, name := range s.missing() {
		if p.registry == "" {
			return planned, noRegistry()
		}
		planned.Images = merged(planned.Images, map[string]string{name: p.registry + "/" + name + ":" + p.tag})
	}
	return planned, nil
}

// missing are the images that are not given.
func (s *selection) missing() []string {
	wanted := []string{"api", "engine"}
	if s.options.Redis == "" {
		wanted = append(wanted, "redis")
	}
	return slices.DeleteFunc(wanted, func(name string) bool { return s.options.Images[name] != "" })
}

func merged(some, others map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, some)
	maps.Copy(all, others)
	return all
}

// complete builds and pushes the images that are not given.
func (s *selection) complete(ctx context.Context, p packing, out io.Writer) error {
	missing := s.missing()
	if slices.Contains(missing, "redis") {
		reference, err := p.pushRedis(ctx, out)
		if err != nil {
			return fmt.Errorf("%w; --redis-image names an image instead", err)
		}
		s.options.Images = merged(s.options.Images, map[string]string{"redis": reference})
	}
	build := slices.DeleteFunc(programs(), func(p program) bool { return !slices.Contains(missing, p.name) })
	if len(build) == 0 {
		return nil
	}
	references, err := p.push(ctx, build, out)
	s.options.Images = merged(s.options.Images, references)
	return err
}

// pushRedis packs the redis-server of this machine.
func (p *packing) pushRedis(ctx context.Context, out io.Writer) (string, error) {
	server, libraries, err := image.FromMachine(ctx, "redis-server")
	if err != nil {
		return "", err
	}
	client, more, err := image.FromMachine(ctx, "redis-cli")
	if err != nil {
		return "", err
	}
	packages, err := image.Fetch(ctx, p.packages, []string{p.mirror, image.Snapshot}, []string{runtime.GOARCH})
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
