package process

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

func FuzzParseStat(f *testing.F) {
	f.Add("12 (a) b) c) S 1 12 12 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 1 0 4711 1 1 1")
	f.Add("1 () Z")
	f.Add(") 1 (")
	f.Fuzz(func(t *testing.T, line string) {
		if st, err := parseStat(line); err == nil && !strings.Contains(line, "(") {
			t.Errorf("parsed %+v of %q", st, line)
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, state, threads string
		dead                 bool
	}{
		{"a thread", "S", "1", false},
		{"a zombie", "Z", "1", true},
		{"a zombie that is being reaped", "X", "0", true},
		{"the first thread has ended", "Z", "2", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			st, err := parseStat("12 (a) Z 9) (x) " + test.state + " 1 2 3 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 " + test.threads + " 0 4711 1 1 1\n")
			want := stat{pidStart: pidStart{pid: 12, start: 4711}, parent: 1, session: 3, dead: test.dead}
			if err != nil || st != want {
				t.Errorf("parsed %+v, %v, want %+v", st, err, want)
			}
		})
	}
}

func FuzzFileName(f *testing.F) {
	for _, name := range []string{"a/b", "../a", "/a", ".", "a//b", "a/../..", "a\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path := filepath.Join("/instance", filepath.FromSlash(name))
		if cleanRelative(name) && !strings.HasPrefix(path, "/instance/") {
			t.Errorf("%q leads to %s", name, path)
		}
	})
}

func FuzzPlaceName(f *testing.F) {
	f.Add("process:index:Process", "riddle")
	f.Add("a$b", "../../x\n")
	f.Fuzz(func(t *testing.T, kind, name string) {
		if got := directoryName(kind, name); !safeName(got) || len(got) > 60 {
			t.Errorf("%q becomes %q", name, got)
		}
	})
}

func FuzzParseInputs(f *testing.F) {
	f.Add(`{"command": "./a", "args": ["{port}"], "env": {"A": "b"}, "readyTimeout": 1.5}`)
	f.Add(`{"command": ["x"], "args": [[1]], "env": {"PORT": null, "=": ""}, "readyTimeout": -1e300, "files": {"../x": {}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var given map[string]any
		if json.Unmarshal([]byte(text), &given) != nil {
			return
		}
		in, failures := parseInputs(resource.NewPropertyMapFromMap(given))
		if len(failures) > 0 {
			return
		}
		for path := range in.files {
			if !cleanRelative(path) {
				t.Errorf("the file %q is taken", path)
			}
		}
		if in.readyTimeout <= 0 || in.readyTimeout > maxReadyTimeout {
			t.Errorf("the timeout %s is taken", in.readyTimeout)
		}
	})
}

// FuzzRecord: what is taken for a record names a program, and is written as it
// was read.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"marker":"M","port":20000,"bootId":"b"}`))
	f.Add([]byte(`{"marker":"M","port":20000,"pid":12,"start":18446744073709551615,"bootId":"b","tenant":"t","challenge":"c/\u0000","madeAt":"2030-01-02T03:04:05.000000006+07:00"}`))
	f.Add([]byte(`{"marker":"M","port":70000,"pid":-1,"bootId":"b"}`))
	f.Add([]byte(`null`))
	f.Add([]byte(nil))
	pl := place{root: f.TempDir(), identity: "i", name: "p"}
	if err := os.MkdirAll(pl.dir(), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := parseRecord(text)
		if err != nil {
			return
		}
		if rec.Marker == "" || rec.BootID == "" {
			t.Errorf("it names no program: %+v", rec)
		}
		if err := pl.save(rec); err != nil {
			t.Fatal(err)
		}
		again, ok, err := pl.load()
		if d := cmp.Diff(rec, again); !ok || err != nil || d != "" {
			t.Errorf("it is another once it is saved: %v %v %s", ok, err, d)
		}
		out := recordOf(rec.outputs(nil))
		if out.process() != rec.process() || out.Port != rec.Port || out.BootID != rec.BootID {
			t.Errorf("the outputs tell of %+v, the record of %+v", out, rec)
		}
	})
}
