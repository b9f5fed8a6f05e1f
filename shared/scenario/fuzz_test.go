package scenario

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{
		"host/web", "host:5000/a/b:1", "[::1]:5000/a", "host/a:1@sha256:" + strings.Repeat("0", 64), "u:p@host/a", "host/../a", "//", "a/b@",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReference(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(r.registry, "/@ ") || strings.Contains(r.repository, "..") || r.target() == "" {
			t.Errorf("%q is taken for %+v", text, r)
		}
		again, err := parseReference(r.registry + "/" + r.repository + ":" + r.target())
		if r.digest == "" && (err != nil || again.target() != r.target()) {
			t.Errorf("%q is not stable: %+v, %v", text, again, err)
		}
	})
}

func FuzzParseProject(f *testing.F) {
	for _, seed := range []string{
		"name: a\nruntime: go", "name: a\nruntime: {name: go, options: {binary: ./main}}", "name: &a [*a]", "runtime: !!binary x",
		"name: a\nruntime: &r {name: go, options: *r}", "- 1", "", "name: a\nruntime: {<<: {name: go}}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProject([]byte(text))
		if err != nil {
			return
		}
		if !projectName.MatchString(p.name) || p.binary != "" && !filepath.IsLocal(p.binary) {
			t.Errorf("%q is taken for %+v", text, p)
		}
	})
}

func FuzzCheckTitle(f *testing.F) {
	for _, seed := range []string{"main", "./a/b", "../a", "a/../../b", "/a", "a//b", ".", "..", "a/.", "\x00", "a\\..\\b", "...", "a/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, title string) {
		name, err := checkTitle(title)
		if err != nil {
			return
		}
		if !filepath.IsLocal(name) || name == "." || filepath.Clean(name) != name {
			t.Errorf("%q is taken for %q", title, name)
		}
	})
}

func FuzzFilesOf(f *testing.F) {
	f.Add([]byte(`{"layers":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"annotations":{"org.opencontainers.image.title":"a"}}]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		files, err := filesOf(manifest)
		for _, one := range files {
			if err == nil && (!filepath.IsLocal(one.name) || one.desc.Size < 0) {
				t.Errorf("manifest lists %+v", one)
			}
		}
	})
}

// FuzzEntry: what is taken for an entry of the cache leads to a file of its own,
// and is written as it was read.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"project":"p","program":"files/main","size":1}`))
	f.Add([]byte(`{"project":"p","program":"program","size":1099511627776}`))
	f.Add([]byte(`{"project":"p","program":"","size":0}`))
	f.Add([]byte(`{"project":"p","program":"files/../../x","size":-1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEntry(data)
		if err != nil {
			return
		}
		inside, err := filepath.Rel("/cache/"+filesDir, filepath.Join("/cache", e.Program))
		if e.Program != "" && e.Program != built && (err != nil || !filepath.IsLocal(inside) || inside == ".") {
			t.Errorf("the program is %q", e.Program)
		}
		if !projectName.MatchString(e.Project) || e.Size < 0 || e.Size+maxEntry < e.Size {
			t.Errorf("%q is taken for %+v", data, e)
		}
		written, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseEntry(written); err != nil || again != e {
			t.Errorf("%+v is %+v once it is written: %v", e, again, err)
		}
	})
}
