package process

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

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
	st, err := parseStat("12 (a) Z 9) (x) S 1 2 3 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 1 0 4711 1 1 1\n")
	want := stat{pidStart: pidStart{pid: 12, start: 4711}, parent: 1, session: 3}
	if err != nil || st != want {
		t.Errorf("parsed %+v, %v, want %+v", st, err, want)
	}
}

func FuzzFileName(f *testing.F) {
	for _, name := range []string{"a/b", "../a", "/a", ".", "a//b", "a/../..", "a\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path := filepath.Join("/work", filepath.FromSlash(name))
		if cleanRelative(name) && !strings.HasPrefix(path, "/work/") {
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
