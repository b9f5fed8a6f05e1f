package scenario_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func hex(s ctf.Scenario) string { return strings.TrimPrefix(s.Digest, "sha256:") }

// sized is a scenario of a bit more than 100 kB.
func sized(name string) map[string]string {
	return with(map[string]string{"name": name, "ballast": strings.Repeat("b", 100_000)})
}

func TestCacheDropsTheLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	a, b, c := push(t, host+"/s:a", sized("a")), push(t, host+"/s:b", sized("b")), push(t, host+"/s:c", sized("c"))
	cacheDir := t.TempDir()
	l := newLibrary(t, scenario.Options{CacheDir: cacheDir, MaxBytes: 250_000})

	open(t, l, a).Close()
	open(t, l, b).Close()
	past := time.Now().Add(-time.Hour)
	for _, s := range []ctf.Scenario{a, b} { // clocks of file systems are coarse
		if err := os.Chtimes(filepath.Join(cacheDir, "sha256", hex(s)+".lock"), past, past); err != nil {
			t.Fatal(err)
		}
	}
	open(t, l, a).Close()
	open(t, l, c).Close()

	got := map[string]bool{}
	for _, name := range entries(t, cacheDir) {
		got[name] = true
	}
	if diff := cmp.Diff(map[string]bool{hex(a): true, hex(c): true}, got); diff != "" {
		t.Error(diff)
	}
	open(t, l, b).Close() // and it comes back
}

func TestCacheKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	a, b := push(t, host+"/s:a", sized("a")), push(t, host+"/s:b", sized("b"))
	cacheDir := t.TempDir()
	one := newLibrary(t, scenario.Options{CacheDir: cacheDir, MaxBytes: 1})
	used := open(t, one, a)

	other := newLibrary(t, scenario.Options{CacheDir: cacheDir, MaxBytes: 1})
	alsoUsed := open(t, other, b)
	for _, c := range []*scenario.Content{used, alsoUsed} {
		if _, err := os.Stat(c.Binary); err != nil {
			t.Errorf("content in use was dropped: %v", err)
		}
	}
	used.Close()
	used.Close()
	newLibrary(t, scenario.Options{CacheDir: cacheDir, MaxBytes: 1})
	if diff := cmp.Diff([]string{hex(b)}, entries(t, cacheDir)); diff != "" {
		t.Error(diff)
	}
}

func TestCacheRemovesWhatInterruptedWorkLeft(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	s := push(t, host+"/s:1", prebuilt)
	cacheDir := t.TempDir()
	left := filepath.Join(cacheDir, "sha256", hex(s)+".tmp", "files")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	l := newLibrary(t, scenario.Options{CacheDir: cacheDir})
	if got := entries(t, cacheDir); len(got) > 0 {
		t.Errorf("New left %v", got)
	}
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, l, s)
	if diff := cmp.Diff([]string{hex(s)}, entries(t, cacheDir)); diff != "" {
		t.Error(diff)
	}
}

func TestCacheReplacesDamagedEntries(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	s := push(t, host+"/s:1", prebuilt)
	damages := map[string]func(entry string) error{
		"no entry file": func(entry string) error { return os.Remove(filepath.Join(entry, "entry.json")) },
		"half an entry file": func(entry string) error {
			return os.WriteFile(filepath.Join(entry, "entry.json"), []byte(`{"proj`), 0o600)
		},
		"no program": func(entry string) error { return os.Remove(filepath.Join(entry, "files", "main")) },
		"a program elsewhere": func(entry string) error {
			return os.WriteFile(filepath.Join(entry, "entry.json"), []byte(`{"project":"p","program":"../../main","size":1}`), 0o600)
		},
		"a program that leads elsewhere": func(entry string) error {
			program := filepath.Join(entry, "files", "main")
			return errors.Join(os.Remove(program), os.Symlink("/bin/true", program))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cacheDir := t.TempDir()
			l := newLibrary(t, scenario.Options{CacheDir: cacheDir})
			open(t, l, s).Close()
			if err := os.WriteFile(filepath.Join(cacheDir, "main"), []byte("elsewhere"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(cacheDir, "sha256", hex(s))); err != nil {
				t.Fatal(err)
			}
			c := open(t, l, s)
			want := filepath.Join(cacheDir, "sha256", hex(s), "files", "main")
			if info, err := os.Lstat(c.Binary); err != nil || c.Binary != want || !info.Mode().IsRegular() {
				t.Errorf("the program is %s, want %s: %v", c.Binary, want, err)
			}
		})
	}
}

func TestCacheForgetsLocksOfWhatNeverWas(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	cacheDir := t.TempDir()
	l := newLibrary(t, scenario.Options{CacheDir: cacheDir})
	s := ctf.Scenario{Reference: host + "/s:1", Digest: "sha256:" + strings.Repeat("0", 64)}
	if _, err := l.Open(t.Context(), s); err == nil {
		t.Fatal("no error")
	}
	found, err := os.ReadDir(filepath.Join(cacheDir, "sha256"))
	if err != nil || len(found) > 0 {
		t.Errorf("the cache kept %v (%v)", found, err)
	}
}
