package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
	"github.com/mayfly-ctf/mayfly/shared/backup"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

func newRestoreCommand() *cobra.Command {
	var r records
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Fill an empty Redis with what was backed up",
		Long: `Fill an empty Redis with what 'mayfly backup' saved in a file, - for standard
input. Instances that still run are managed again: same address, same end, same
flags. What was in a pool is destroyed and made anew. Mayfly must not run meanwhile;
what of it does will not begin to work until the restore has ended. Nothing is
changed unless all of the file can be read. If it is interrupted, call it again with
the same file.

It writes to the Redis at --redis-url, or to that which 'mayfly run' keeps in
--dir. The keys that flags and checkpoints are sealed with are those of the
installation, in MAYFLY_KEYS or in the file keys of --dir. The key of an encrypted
file is in --key-file or in MAYFLY_BACKUP_KEY.`,
		Example: "  mayfly restore mayfly.backup\n  mayfly restore - --redis-url redis://localhost:6379 <mayfly.backup",
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return function.FromEnvironment(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := function.UntilTold(cmd.Context())
			defer stop()
			file, err := openInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer file.Close()
			return explained(r.restore(ctx, file, cmd.ErrOrStderr()))
		},
	}
	r.register(cmd.Flags())
	return cmd
}

func (r *records) restore(ctx context.Context, file io.ReadSeeker, diagnostics io.Writer) error {
	key, err := r.key()
	if err != nil {
		return err
	}
	keys, err := r.keysOfInstallation()
	if err != nil {
		return err
	}
	url, stop, err := r.alone(ctx, diagnostics)
	if err != nil {
		return err
	}
	defer stop()
	store, err := redis.Open(ctx, redis.Options{URL: url, Keys: keys})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // each write was answered

	var progress atomic.Pointer[string]
	progress.Store(new("reading the backup"))
	ended := showProgress(diagnostics, func() string { return *progress.Load() })
	done, err := backup.Restore(ctx, file, store, key, func(done, all backup.Count) {
		progress.Store(new(fmt.Sprintf("restoring: %d of %s", done.Instances, counted(all.Instances, "instance"))))
	})
	ended()
	if err == nil {
		fmt.Fprintf(diagnostics, "Restored: %s.\n", sized(done))
	}
	return err
}

// explained adds what to do about an error of a restore.
func explained(err error) error {
	switch {
	case errors.Is(err, backup.ErrKeyMissing):
		return fmt.Errorf("%w; give it with --key-file, or in MAYFLY_BACKUP_KEY", err)
	case errors.Is(err, backup.ErrNotEncrypted):
		return fmt.Errorf("%w; leave the key out if you trust the file", err)
	case errors.Is(err, backup.ErrOtherKeys):
		return fmt.Errorf("%w; set MAYFLY_KEYS to those, or put them into the file keys of --dir", err)
	}
	return err
}

// openInput opens a file that is to be read more than once; standard input is
// written to a temporary one, as it is.
func openInput(path string, in io.Reader) (*os.File, error) {
	if path != standardStream {
		return os.Open(path)
	}
	file, err := os.CreateTemp("", "mayfly-restore-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file.Name()) // it goes with us
	if _, err := io.Copy(file, in); err != nil {
		file.Close()
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	return file, nil
}
