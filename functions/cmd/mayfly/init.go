package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// schemaFile is the JSON Schema beside a manifest, so that editors complete it
// without a network.
const schemaFile = "mayfly.schema.json"

func newScenarioInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Begin a scenario without code",
		Long: `Write ` + manifest.File + `, which describes a challenge without code and explains
itself, and beside it ` + schemaFile + `, by which editors that speak YAML
complete and check it. DIR is made if it is missing; what is there is never
overwritten.`,
		Example: "  mayfly scenario init hello",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			if err := initScenario(dir); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `Wrote %[2]s.

Put your image into it. Then:
  mayfly scenario lint %[1]s        finds mistakes and dangers
  mayfly scenario try %[1]s         deploys it once, and tears it down on Ctrl-C
  mayfly scenario push %[1]s REF    makes it available to a server
`, dir, filepath.Join(dir, manifest.File))
			return nil
		},
	}
}

func newScenarioSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of scenarios without code",
		Long:    "Print the JSON Schema (draft 2020-12) of " + manifest.File + ", for editors and other checkers.",
		Example: "  mayfly scenario schema > " + schemaFile,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(manifest.Schema())
			return err
		},
	}
}

// initScenario writes a manifest to begin with and its schema.
func initScenario(dir string) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("begin a scenario: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("begin a scenario: %w", err)
	}
	for _, name := range []string{manifest.File, "Pulumi.yaml", "Pulumi.yml"} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return fmt.Errorf("%s is a scenario already, it has %s; choose another directory", dir, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("begin a scenario: %w", err)
		}
	}
	// It holds a secret.
	text := append([]byte("# yaml-language-server: $schema="+schemaFile+"\n"), manifest.Starter(filepath.Base(path))...)
	if err := writeNew(filepath.Join(path, manifest.File), text, 0o600); err != nil {
		return fmt.Errorf("begin a scenario: %w", err)
	}
	err = writeNew(filepath.Join(path, schemaFile), manifest.Schema(), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("begin a scenario: %w", err)
	}
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(content)
	return err
}
