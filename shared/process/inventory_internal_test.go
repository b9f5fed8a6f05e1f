package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// FuzzHolding has anything be recorded of two programs of an instance. What can
// be read tells the challenge, of one record and never half of two, and since
// when it is there; the instance is dead unless both can be read and both run.
// Who looks changes nothing.
func FuzzHolding(f *testing.F) {
	boot, err := bootID()
	if err != nil {
		f.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	runs := fmt.Sprintf(`{"marker":"M","port":20000,"pid":%d,"start":%s,"bootId":%q,"tenant":"t","challenge":"c","madeAt":"2020-01-02T03:04:05.6Z"}`,
		os.Getpid(), statFields(self)[19], boot)
	f.Add([]byte(runs), []byte(runs))
	f.Add([]byte(strings.Replace(runs, `"c"`, `"c é"`, 1)), []byte(`{"marker":"M","port":20001,"bootId":"b","tenant":"u","madeAt":"2019-01-02T03:04:05+07:00"}`))
	f.Add([]byte(strings.Replace(runs, `"bootId":"`, `"bootId":"x`, 1)), []byte(`{"marker":"M","port":20001,"bootId":"b","tenant":"u","challenge":"d","madeAt":"2999-01-02T03:04:05Z"}`))
	f.Add([]byte(strings.Replace(runs, `"port":20000`, `"port":0`, 1)), []byte(runs))
	f.Add([]byte(nil), []byte(`null`))
	s := &store{root: f.TempDir()}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for name, text := range map[string][]byte{"a": first, "b": second} {
			pl := place{root: s.root, identity: "i", name: name}
			if err := os.MkdirAll(pl.dir(), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(pl.recorded(), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir, err := os.Stat(filepath.Join(s.root, "i"))
		if err != nil {
			t.Fatal(err)
		}
		want := ctf.Holding{Key: ctf.InstanceKey{Identity: "i"}, Since: dir.ModTime()}
		for _, text := range [][]byte{first, second} {
			rec, err := parseRecord(text)
			want.Dead = want.Dead || err != nil || rec.BootID != boot || !isThere(rec.PID, rec.Start)
			if err != nil {
				continue
			}
			if !rec.MadeAt.Equal(time.Time{}) && rec.MadeAt.Before(want.Since) {
				want.Since = rec.MadeAt
			}
			if rec.Challenge != "" {
				want.Key.Challenge.Tenant, want.Key.Challenge.ID = rec.Tenant, rec.Challenge
			}
		}
		got, err := s.holding("i")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		for name, text := range map[string][]byte{"a": first, "b": second} {
			if is, err := os.ReadFile(filepath.Join(s.root, "i", name, "record.json")); err != nil || string(is) != string(text) {
				t.Errorf("the record %s is now %q, %v", name, is, err)
			}
		}
	})
}

// statFields are those of a line of /proc that follow the name.
func statFields(line []byte) []string {
	return strings.Fields(string(line[strings.LastIndexByte(string(line), ')')+1:]))
}

// isThere tells whether a process that began at that tick is there, by /proc alone.
func isThere(pid int, start uint64) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && statFields(line)[19] == fmt.Sprint(start)
}
