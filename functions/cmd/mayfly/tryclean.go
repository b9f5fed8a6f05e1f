package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// whose is the beginning of the challenge ids of all that is tried with this
// directory of locks: only who sees the locks knows what is in use. It has the
// machine's name for people.
func (t *trial) whose() (string, error) {
	id, err := t.token()
	if err != nil {
		return "", fmt.Errorf("note who tries: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return name + "/" + id + ":", nil
}

// token tells the directory of locks from others. It is made at the first try.
func (t *trial) token() (string, error) {
	path := filepath.Join(t.directory, "id")
	kept, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return string(kept), err
	}
	if err := os.MkdirAll(t.directory, 0o700); err != nil {
		return "", err
	}
	fresh := ctf.NewIdentity()
	whole := path + "." + string(fresh)
	if err := writeNew(whole, []byte(fresh), 0o600); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(whole) }() // it has another name by then
	if err := os.Link(whole, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	kept, err = os.ReadFile(path) // of whoever was first
	return string(kept), err
}

// challengeOf is whose instances the tries of a directory are.
func (t *trial) challengeOf(dir string) (ctf.ChallengeKey, error) {
	whose, err := t.whose()
	if err != nil {
		return ctf.ChallengeKey{}, err
	}
	if path, err := filepath.Abs(dir); err == nil {
		dir = path
	}
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(whose + strings.ToValidUTF8(dir, "?"))}, nil
}

// hold notes that the instance is in use, until release is called or the
// process ends, however it does.
func (t *trial) hold(identity ctf.Identity) (release func(), err error) {
	if err := os.MkdirAll(t.directory, 0o700); err != nil {
		return nil, fmt.Errorf("note what is tried: %w", err)
	}
	path := t.lockOf(identity)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("note what is tried: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("note what is tried: %w", err), file.Close())
	}
	return func() {
		_ = os.Remove(path) // without a holder it means nothing
		_ = file.Close()
	}, nil
}

func (t *trial) lockOf(identity ctf.Identity) string {
	return filepath.Join(t.directory, string(identity)+".lock")
}

// inUse tells whether another process of this machine tries the instance.
func (t *trial) inUse(identity ctf.Identity) (bool, error) {
	file, err := os.Open(t.lockOf(identity))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look who tries %s: %w", identity, err)
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// left returns what earlier tries of this user left, and what others tried or
// try.
func (t *trial) left(ctx context.Context) (own, foreign []ctf.Holding, err error) {
	whose, err := t.whose()
	if err != nil {
		return nil, nil, err
	}
	platforms, err := t.platform.Inventory()
	if err != nil {
		return nil, nil, err
	}
	for _, p := range platforms {
		for h, err := range p.Instances(ctx) {
			if err != nil {
				return nil, nil, err
			}
			used, err := t.inUse(h.Key.Identity)
			switch {
			case err != nil:
				return nil, nil, err
			case used:
			case h.Key.Challenge.ID == "" || strings.HasPrefix(string(h.Key.Challenge.ID), whose):
				own = append(own, h)
			default:
				foreign = append(foreign, h)
			}
		}
	}
	return own, foreign, nil
}

// clean removes what earlier tries of this user left; with all, also what
// others tried or try.
func (t *trial) clean(ctx context.Context, all bool) (err error) {
	first, _, stop := interrupts(ctx)
	defer stop()
	if err := t.open(first, directorySource("")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.engine.Close()) }()
	own, foreign, err := t.look(first)
	if err != nil {
		return err
	}
	if all {
		own, foreign = append(own, foreign...), nil
	}
	if err := t.remove(first, own); err != nil {
		return err
	}
	if len(own) == 0 {
		fmt.Fprintln(t.out, "Nothing is left of earlier tries.")
	}
	for _, h := range foreign {
		fmt.Fprintf(t.out, "Left alone, as somebody else tried it or still does: %s, %s (--all removes it too).\n", h.Key.Identity, tried(h))
	}
	return nil
}

func (t *trial) look(ctx context.Context) (own, foreign []ctf.Holding, err error) {
	_, err = await(ctx, t.client, "looking for what earlier tries left", readLimit, func(ctx context.Context) (any, error) {
		own, foreign, err = t.left(ctx)
		return nil, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for what earlier tries left: %w", err)
	}
	return own, foreign, nil
}

// removeLeft removes what earlier tries of this user left.
func (t *trial) removeLeft(ctx context.Context) error {
	own, _, err := t.look(ctx)
	if err != nil {
		return err
	}
	return t.remove(ctx, own)
}

func (t *trial) remove(ctx context.Context, held []ctf.Holding) error {
	for _, h := range held {
		l := newLedger()
		_, err := await(ctx, t.client, "removing what an earlier try left", system.OperationLimit, func(ctx context.Context) (any, error) {
			return nil, t.engine.Down(ctx, h.Key, ctf.Checkpoint{}, l)
		})
		if err != nil {
			return fmt.Errorf("remove what an earlier try left, %s: %w", h.Key.Identity, err)
		}
		if err := os.Remove(t.lockOf(h.Key.Identity)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget %s: %w", h.Key.Identity, err)
		}
		fmt.Fprintf(t.diagnostics, "Removed what an earlier try left: %s, %s.\n", h.Key.Identity, tried(h))
	}
	return nil
}

// tried tells what and when.
func tried(h ctf.Holding) string {
	what := string(h.Key.Challenge.ID)
	if what == "" {
		what = "of an unknown scenario"
	}
	return printable(what) + ", " + h.Since.Local().Format(time.RFC3339)
}
