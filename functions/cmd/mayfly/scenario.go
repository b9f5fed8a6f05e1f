package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

func newScenarioCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "scenario", Short: "Begin, check, try and push scenarios", RunE: needSubcommand}
	c := &client{format: formatTable}
	c.bind(cmd)
	c.registerOutput(cmd)
	cmd.AddCommand(
		newScenarioInitCommand(), newScenarioLintCommand(c), newScenarioTryCommand(c), newScenarioPushCommand(c),
		newScenarioSchemaCommand(),
	)
	return cmd
}

func newScenarioPushCommand(c *client) *cobra.Command {
	var access registryAccess
	cmd := &cobra.Command{
		Use:   "push DIR REF",
		Short: "Push a directory as a scenario",
		Long: `Push every file of a directory, with mayfly.yaml or Pulumi.yaml at its top, to
a registry. A mayfly.yaml with mistakes is refused: see 'mayfly scenario lint'.

REF is registry/repository:tag. The login is that of --username and --password,
or of $OCI_USERNAME, $OCI_PASSWORD and $OCI_REGISTRY, or of 'docker login'.
Registries on this machine's loopback addresses are reached over plain HTTP.`,
		Example: `  mayfly scenario push ./hello 127.0.0.1:5000/hello:1
  mayfly scenario push ./hello registry.example/ctf/hello:1 -o json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			pushed, err := access.push(cmd.Context(), c, args[0], args[1])
			if err != nil {
				return err
			}
			if c.format == formatJSON {
				data, err := json.Marshal(map[string]string{"reference": pushed.Reference, "digest": pushed.Digest})
				if err != nil {
					return err
				}
				return printJSON(c.out, data)
			}
			return table(c.out, func(w io.Writer) {
				row(w, "scenario", pushed.Reference)
				row(w, "digest", pushed.Digest)
			})
		},
	}
	access.register(cmd.Flags())
	return cmd
}

// A registryAccess is how a push reaches its registry.
type registryAccess struct {
	username, password string
	insecure           bool
}

func (a *registryAccess) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.username, "username", "", "`user` at the registry that is pushed to")
	flags.StringVar(&a.password, "password", "", "password at the registry that is pushed to")
	flags.BoolVar(&a.insecure, "insecure", false, "speak plain HTTP with the registry that is pushed to")
}

func (a *registryAccess) push(ctx context.Context, c *client, dir, reference string) (ctf.Scenario, error) {
	if (a.username == "") != (a.password == "") {
		return ctf.Scenario{}, usageError{"--username and --password go together"}
	}
	if err := refuseBroken(c, dir); err != nil {
		return ctf.Scenario{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	return await(ctx, c, "pushing "+dir, workLimit, func(ctx context.Context) (ctf.Scenario, error) {
		return scenario.Push(ctx, dir, reference, a.registries(reference))
	})
}

// refuseBroken reports what is found in a directory whose manifest can't be
// used. Of programs nothing is said here.
func refuseBroken(c *client, dir string) error {
	if !isFile(filepath.Join(dir, manifest.File)) {
		return nil
	}
	found, err := lintScenario(dir)
	if err != nil {
		return err
	}
	err = found.verdict(false)
	if err != nil {
		found.write(c.diagnostics)
	}
	return err
}

func (a *registryAccess) registries(reference string) scenario.Registries {
	registry, _, _ := strings.Cut(reference, "/")
	r := scenario.Registries{Insecure: a.insecure, Credentials: scenario.Credentials{
		Registry: registry, Username: a.username, Password: a.password,
	}}
	if a.username == "" {
		r.Credentials = scenario.Credentials{
			Registry: os.Getenv("OCI_REGISTRY"), Username: os.Getenv("OCI_USERNAME"), Password: os.Getenv("OCI_PASSWORD"),
		}
	}
	if isLoopback(registry) {
		r.PlainHTTP = []string{registry}
	}
	return r
}

func isLoopback(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
