package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/mayfly-ctf/mayfly/shared/backup"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// A site is an installation on a Redis of its own.
type site struct {
	store *redis.Store
	keys  *redis.Keyring
	raw   *goredis.Client
}

func newSite(t testing.TB, keys *redis.Keyring) site {
	t.Helper()
	return siteAt(t, redistest.Start(t), keys)
}

func siteAt(t testing.TB, url string, keys *redis.Keyring) site {
	t.Helper()
	store, err := redis.Open(t.Context(), redis.Options{URL: url, Keys: keys, Lazy: true})
	check(t, err)
	options, err := goredis.ParseURL(url)
	check(t, err)
	s := site{store, keys, goredis.NewClient(options)}
	t.Cleanup(func() { _, _ = s.store.Close(), s.raw.Close() })
	return s
}

func newKeys(t testing.TB) *redis.Keyring {
	t.Helper()
	keys, err := redis.ParseKeys(redis.NewKey())
	check(t, err)
	return keys
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func untold(backup.Count) {}

func unheard(_, _ backup.Count) {}

// fill makes challenges, each with a ready and a pending instance.
func (s site) fill(t testing.TB, challenges int) {
	t.Helper()
	ctx := t.Context()
	_, err := s.store.Installation(ctx)
	check(t, err)
	for n := range challenges {
		c := ctf.Challenge{
			Key:      ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(fmt.Sprint("challenge ", n))},
			Scenario: ctf.Scenario{Reference: "registry/s:1", Digest: "sha256:1"}, Timeout: new(time.Hour),
			Additional: map[string]string{"<&>": "☃"},
		}
		check(t, s.store.CreateChallenge(ctx, c))
		for _, source := range []ctf.SourceID{"ready", "pending"} {
			s.create(t, c.Key, source)
		}
	}
}

func (s site) create(t testing.TB, c ctf.ChallengeKey, source ctf.SourceID) {
	t.Helper()
	ctx := t.Context()
	r, err := s.store.Reserve(ctx, ctf.ReserveRequest{Challenge: c, Source: source})
	check(t, err)
	l, err := s.store.Lease(ctx, r.Instance.Key)
	check(t, err)
	defer l.Release()
	check(t, l.Journal(ctf.Pending).Append(ctx, []byte("begin")))
	if source == "pending" {
		return
	}
	w, err := l.Load(ctx)
	check(t, err)
	_, err = l.Deployed(ctx, w, ctf.Result{ConnectionInfo: "nc host", Flags: []string{"FLAG"}, Base: []byte("base")})
	check(t, err)
}

// written is a backup of a site.
func (s site) written(t testing.TB, key *redis.Keyring) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := backup.Write(t.Context(), &out, s.store, key, untold)
	check(t, err)
	return out.Bytes()
}

func (s site) restored(ctx context.Context, text []byte, key *redis.Keyring) error {
	_, err := backup.Restore(ctx, bytes.NewReader(text), s.store, key, unheard)
	return err
}

// shown is what sources see.
func (s site) shown(t testing.TB) map[string]ctf.Instance {
	t.Helper()
	all := map[string]ctf.Instance{}
	challenges, err := ctf.Collect(s.store.Challenges(t.Context(), ctf.DefaultTenant))
	check(t, err)
	for _, c := range challenges {
		entries, err := ctf.Collect(s.store.All(t.Context(), c.Key))
		check(t, err)
		for _, e := range entries {
			e.Instance.Revision = 0 // it goes on elsewhere
			all[fmt.Sprint(c.Key.ID, "/", e.Instance.Source)] = e.Instance
		}
	}
	return all
}

func (s site) wantUntouched(t testing.TB) {
	t.Helper()
	if keys := s.raw.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Fatalf("it was written: %v", keys)
	}
}

// TestRoundTrip backs up and restores, encrypted and not.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]*redis.Keyring{"plain": nil, "encrypted": newKeys(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := newSite(t, newKeys(t))
			to := newSite(t, from.keys)
			from.fill(t, 3)
			var told []backup.Count
			var out bytes.Buffer
			written, err := backup.Write(t.Context(), &out, from.store, key, func(c backup.Count) { told = append(told, c) })
			check(t, err)
			want := backup.Count{Challenges: 3, Instances: 6}
			if written != want || len(told) != 3 || told[2] != want {
				t.Errorf("written: %+v, told: %+v", written, told)
			}
			if readable := strings.Contains(out.String(), "instance"); readable != (key == nil) {
				t.Errorf("it can be read: %v", readable)
			}
			var last [2]backup.Count
			restored, err := backup.Restore(t.Context(), bytes.NewReader(out.Bytes()), to.store, key, func(done, all backup.Count) { last = [2]backup.Count{done, all} })
			check(t, err)
			if restored != want || last != [2]backup.Count{want, want} {
				t.Errorf("restored: %+v, told: %+v", restored, last)
			}
			if d := cmp.Diff(from.shown(t), to.shown(t)); d != "" {
				t.Error(d)
			}
			before, err := from.store.Installation(t.Context())
			check(t, err)
			if after, err := to.store.Installation(t.Context()); after != before || err != nil {
				t.Errorf("the installation is %s, was %s: %v", after, before, err)
			}
			if err := to.restored(t.Context(), out.Bytes(), key); !errors.Is(err, redis.ErrInUse) {
				t.Errorf("restored over what is there: %v", err)
			}
		})
	}
}

// TestDamaged flips a bit of each byte of a backup, and cuts it after each. All
// are refused, and nothing is written.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]*redis.Keyring{"plain": nil, "encrypted": newKeys(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := newSite(t, newKeys(t))
			to := newSite(t, from.keys)
			from.fill(t, 1)
			whole := from.written(t, key)
			for n := range whole {
				if err := to.restored(t.Context(), whole[:n], key); err == nil {
					t.Fatalf("it is cut after %d of %d bytes, and restored", n, len(whole))
				}
				flipped := bytes.Clone(whole)
				flipped[n] ^= 1 << (n % 8)
				if err := to.restored(t.Context(), flipped, key); err == nil {
					t.Fatalf("byte %d is %q instead of %q, and it is restored", n, flipped[n], whole[n])
				}
			}
			if err := to.restored(t.Context(), append(bytes.Clone(whole), '\n'), key); err == nil {
				t.Error("it is longer, and restored")
			}
			to.wantUntouched(t)
			check(t, to.restored(t.Context(), whole, key))
		})
	}
}

// TestRefused: each refusal says why, and nothing is written.
func TestRefused(t *testing.T) {
	t.Parallel()
	from, key := newSite(t, newKeys(t)), newKeys(t)
	from.fill(t, 1)
	plain, encrypted := from.written(t, nil), from.written(t, key)
	check(t, from.raw.HSet(t.Context(), from.record(t), "schema", "2").Err())
	newer := []byte(`{"format":"mayfly-backup","version":2,"unheard":"of"}` + "\n")
	for name, c := range map[string]struct {
		text []byte
		keys *redis.Keyring
		key  *redis.Keyring
		want error
		says string
	}{
		"empty":                      {nil, from.keys, nil, backup.ErrDamaged, "line 1"},
		"empty, with a key":          {nil, from.keys, key, backup.ErrDamaged, "line 1"},
		"something else":             {[]byte("{}\n"), from.keys, nil, backup.ErrDamaged, "this is no backup of Mayfly"},
		"newer":                      {newer, from.keys, nil, backup.ErrNewer, ""},
		"no key":                     {encrypted, from.keys, nil, backup.ErrKeyMissing, ""},
		"another key":                {encrypted, from.keys, newKeys(t), redis.ErrKeyUnknown, "decrypt the backup"},
		"a key for what is plain":    {plain, from.keys, key, backup.ErrNotEncrypted, ""},
		"keys of another":            {plain, newKeys(t), nil, backup.ErrOtherKeys, "line 3"},
		"keys of another, encrypted": {encrypted, newKeys(t), key, backup.ErrOtherKeys, "not among those given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := newSite(t, c.keys)
			err := to.restored(t.Context(), c.text, c.key)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got error %v, want %v that says %q", err, c.want, c.says)
			}
			to.wantUntouched(t)
		})
	}
	t.Run("newer record", func(t *testing.T) {
		t.Parallel()
		if _, err := backup.Write(t.Context(), io.Discard, from.store, nil, untold); ctf.ReasonOf(err) != ctf.ReasonUnavailable {
			t.Errorf("a newer record is written: %v", err)
		}
	})
	t.Run("nothing to back up", func(t *testing.T) {
		t.Parallel()
		to := newSite(t, from.keys)
		if _, err := backup.Write(t.Context(), io.Discard, to.store, nil, untold); !errors.Is(err, backup.ErrNothing) {
			t.Errorf("got error %v", err)
		}
		to.wantUntouched(t)
	})
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		to := newSite(t, from.keys)
		name, err := to.store.Installation(t.Context())
		check(t, err)
		err = to.restored(t.Context(), plain, nil)
		if !errors.Is(err, redis.ErrInUse) || !strings.Contains(err.Error(), name) {
			t.Errorf("got error %v", err)
		}
	})
}

// record is the key of the record of some instance.
func (s site) record(t testing.TB) string {
	t.Helper()
	keys := s.raw.Keys(t.Context(), "mayfly:{*:i:*").Val()
	if len(keys) == 0 {
		t.Fatal("no instance is on record")
	}
	return keys[0]
}
