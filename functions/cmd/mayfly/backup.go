package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/shared/backup"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// standardStream stands for standard input or output where a file is asked for.
const standardStream = "-"

func newBackupCommand() *cobra.Command {
	var r records
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Save all challenges and instances in a file",
		Long: `Save all challenges and instances of an installation in a file, - for standard
output, while it works or not. The file is there as a whole or not at all, so it
may be one of cron's, or of a hook before volumes are saved.

It reads Redis itself: at --redis-url, or that of the 'mayfly run' on --dir.
With a key (id:key, where the key is 32 bytes in base64), in --key-file or in
MAYFLY_BACKUP_KEY, the file is encrypted. With or without it, flags and checkpoints
stay sealed with MAYFLY_KEYS, which a restore needs and the file does not have.`,
		Example: `  mayfly backup mayfly.backup
  mayfly backup - --redis-url redis://localhost:6379 | ssh elsewhere 'cat >mayfly.backup'`,
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := function.UntilTold(cmd.Context())
			defer stop()
			return r.backup(ctx, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	r.register(cmd.Flags())
	return cmd
}

func (r *records) backup(ctx context.Context, file string, out, diagnostics io.Writer) error {
	key, err := r.key()
	if err != nil {
		return err
	}
	url, stop, err := r.inUse(ctx, diagnostics)
	if err != nil {
		return err
	}
	defer stop()
	store, err := redis.Open(ctx, redis.Options{URL: url, Keys: redis.NoKeys()})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // it was only read

	var done atomic.Pointer[backup.Count]
	done.Store(new(backup.Count))
	ended := showProgress(diagnostics, func() string { return "backing up: " + sized(*done.Load()) })
	write := func(to io.Writer) error {
		_, err := backup.Write(ctx, to, store, key, func(c backup.Count) { done.Store(&c) })
		return err
	}
	if file == standardStream {
		err = write(out)
	} else {
		err = replaceFile(file, write)
	}
	ended()
	if err == nil {
		fmt.Fprintf(diagnostics, "Backed up: %s.\n", sized(*done.Load()))
	}
	return err
}

func sized(c backup.Count) string {
	return counted(c.Challenges, "challenge") + " and " + counted(c.Instances, "instance")
}

// replaceFile writes a file that is there as a whole or as it was before. It is
// for the user alone.
func replaceFile(path string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it is gone if all went well
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
