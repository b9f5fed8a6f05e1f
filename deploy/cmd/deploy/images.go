package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/deploy/image"
)

// packing is what an operator may choose of images.
type packing struct {
	registry, tag, mirror, packages, build, sbom string
	insecure                                     bool
	archs                                        []string
}

func (p *packing) register(flags *pflag.FlagSet) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	flags.StringVar(&p.registry, "registry", "", "registry and path that images are pushed to, as registry.example/mayfly")
	flags.BoolVar(&p.insecure, "insecure", false, "speak plain HTTP with the registry; private addresses get it anyway")
	flags.StringVar(&p.tag, "tag", "latest", "tag of the images")
	flags.StringSliceVar(&p.archs, "arch", []string{runtime.GOARCH}, "architectures: amd64, arm64")
	flags.StringVar(&p.mirror, "mirror", image.Mirror, "mirror of Debian that pinned packages come from, and its archive if they are there no more")
	flags.StringVar(&p.packages, "packages", filepath.Join(cache, "mayfly", "packages"), "directory that packages are kept in")
	flags.StringVar(&p.build, "build", filepath.Join(".bin", "images"), "directory that programs are built in")
	flags.StringVar(&p.sbom, "sbom", "", "directory for a list of what each image is made of (SPDX); it is attached to the image as well")
}

func newImagesCommand(programs []program) *cobra.Command {
	var p packing
	cmd := &cobra.Command{
		Use:   "images",
		Short: "Build and push the images, and print their references by digest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			references, err := p.push(cmd.Context(), programs, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			for _, program := range programs {
				if reference, ok := references[program.name]; ok {
					fmt.Fprintln(cmd.OutOrStdout(), reference)
				}
			}
			return nil
		},
	}
	p.register(cmd.Flags())
	return cmd
}

// A program is one of ours, and an image.
type program struct {
	name, folder string
	// authors tells that it runs programs of authors, which want a C library.
	authors bool
	// arguments are those that it gets if a container has none.
	arguments []string
}

// programs are those that are packed: mayfly is every verb in one.
func programs() []program {
	return []program{
		{name: "api", folder: "functions/cmd/api"},
		{name: "engine", folder: "functions/cmd/engine", authors: true},
		{name: "mayfly", folder: "functions/cmd/mayfly", authors: true, arguments: []string{"serve"}},
	}
}

func noRegistry() error {
	return errors.New("no registry is given: set REGISTRY, as REGISTRY=registry.example/mayfly")
}

// push builds, packs and pushes programs and returns the references.
func (p *packing) push(ctx context.Context, programs []program, out io.Writer) (map[string]string, error) {
	if p.registry == "" {
		return nil, noRegistry()
	}
	packages, err := image.Fetch(ctx, p.packages, []string{p.mirror, image.Snapshot}, p.archs)
	if err != nil {
		return nil, err
	}
	to := image.Repository{Name: p.registry, Insecure: p.insecure}
	references := map[string]string{}
	for _, program := range programs {
		images, lists := map[string]v1.Image{}, map[string][]byte{}
		for _, arch := range p.archs {
			fmt.Fprintf(out, "building %s for %s\n", program.name, arch)
			if images[arch], lists[arch], err = p.pack(ctx, program, arch, packages, out); err != nil {
				return nil, err
			}
		}
		if references[program.name], err = to.Push(ctx, program.name, p.tag, images); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "pushed   %s\n", references[program.name])
		if p.sbom == "" {
			continue
		}
		if err := p.describe(ctx, to, program, images, lists); err != nil {
			return nil, err
		}
	}
	return references, nil
}

// pack returns an image and the list of what it is made of.
func (p *packing) pack(ctx context.Context, program program, arch string, packages *image.Packages, out io.Writer) (v1.Image, []byte, error) {
	file := filepath.Join(p.build, arch, program.name)
	if err := image.Build(ctx, ".", program.folder, arch, file, out); err != nil {
		return nil, nil, err
	}
	plan := image.Plan{Name: program.name, Program: file, Arch: arch, Libraries: program.authors, Arguments: program.arguments}
	packed, err := image.Pack(plan, packages)
	if err != nil {
		return nil, nil, err
	}
	list, err := image.List(plan, packages)
	return packed, list, err
}

// describe writes the lists of one program and attaches them to its images.
func (p *packing) describe(ctx context.Context, to image.Repository, program program, images map[string]v1.Image, lists map[string][]byte) error {
	for arch, list := range lists {
		file := filepath.Join(p.sbom, program.name+"-"+arch+".spdx.json")
		if err := os.MkdirAll(p.sbom, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, list, 0o600); err != nil {
			return err
		}
		if err := to.Attach(ctx, program.name, images[arch], list); err != nil {
			return err
		}
	}
	return nil
}
