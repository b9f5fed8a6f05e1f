package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func TestOpenPrebuilt(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	s := push(t, host+"/web:1", with(map[string]string{"conf/app/flag.txt": "F"}))
	c := open(t, newLibrary(t, scenario.Options{}), s)

	if c.Project != "small" {
		t.Errorf("project is %q, want small", c.Project)
	}
	if want := filepath.Join(c.Dir, "main"); c.Binary != want {
		t.Errorf("binary is %s, want %s", c.Binary, want)
	}
	if info, err := os.Stat(c.Binary); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("binary is %v (%v), want an executable", info.Mode(), err)
	}
	if data, err := os.ReadFile(filepath.Join(c.Dir, "conf/app/flag.txt")); err != nil || string(data) != "F" {
		t.Errorf("file in a directory is %q (%v)", data, err)
	}
}

func TestOpenAcceptsForeignArtifacts(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	untitled := append(layersOf(prebuilt), layer{data: "who knows"})
	yml := []layer{{title: "Pulumi.yml", data: prebuilt["Pulumi.yaml"]}, {title: "main", data: "x"}}
	dotted := []layer{{title: "./Pulumi.yaml", data: prebuilt["Pulumi.yaml"]}, {title: "./main", data: "x"}}
	tests := map[string]ctf.Scenario{
		"no artifact type":      pushRaw(t, host+"/a:1", layersOf(prebuilt), nil),
		"another artifact type": pushRaw(t, host+"/b:1", layersOf(prebuilt), func(m *ocispec.Manifest) { m.ArtifactType = "x/y" }),
		"an untitled layer":     pushRaw(t, host+"/c:1", untitled, nil),
		"Pulumi.yml":            pushRaw(t, host+"/d:1", yml, nil),
		"titles with a dot":     pushRaw(t, host+"/e:1", dotted, nil),
	}
	l := newLibrary(t, scenario.Options{})
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c := open(t, l, s); c.Project != "small" {
				t.Errorf("project is %q, want small", c.Project)
			}
		})
	}
}

func TestOpenRefusesWhatIsNoScenario(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	project := func(text string) []layer {
		return []layer{{title: "Pulumi.yaml", data: text}, {title: "main", data: "x"}}
	}
	plus := func(title string) []layer { return append(layersOf(prebuilt), layer{title: title, data: "evil"}) }
	many := layersOf(prebuilt)
	for i := range 10_000 {
		many = append(many, layer{title: fmt.Sprint(i)})
	}
	tests := map[string]struct {
		layers []layer
		edit   func(*ocispec.Manifest)
		says   string
	}{
		"no layers":               {nil, nil, "no files"},
		"no project file":         {[]layer{{title: "main", data: "x"}}, nil, "no Pulumi.yaml"},
		"project file in a dir":   {[]layer{{title: "web/Pulumi.yaml", data: prebuilt["Pulumi.yaml"]}}, nil, "no Pulumi.yaml"},
		"not YAML":                {project("\tname: {"), nil, "Pulumi.yaml"},
		"no name":                 {project("runtime: go"), nil, "name must be"},
		"bad name":                {project("name: a b\nruntime: go"), nil, "name must be"},
		"no runtime":              {project("name: a"), nil, "runtime is missing"},
		"another runtime":         {project("name: a\nruntime: python"), nil, "unsupported runtime: python"},
		"another runtime, map":    {project("name: a\nruntime: {name: nodejs}"), nil, "unsupported runtime: nodejs"},
		"binary is not a string":  {project("name: a\nruntime: {name: go, options: {binary: 7}}"), nil, "must be a string"},
		"binary is a list":        {project("name: a\nruntime: {name: go, options: {binary: [a]}}"), nil, "must be a string"},
		"binary is not there":     {project("name: a\nruntime: {name: go, options: {binary: ./gone}}"), nil, "no file \"gone\""},
		"binary leads out":        {project("name: a\nruntime: {name: go, options: {binary: ../../../bin/sh}}"), nil, "leads out"},
		"binary is absolute":      {project("name: a\nruntime: {name: go, options: {binary: /bin/sh}}"), nil, "absolute"},
		"binary is empty":         {project("name: a\nruntime: {name: go, options: {binary: ''}}"), nil, "names no file"},
		"title leads out":         {plus("../evil"), nil, "leads out"},
		"title leads out, hidden": {plus("a/../../evil"), nil, "leads out"},
		"title is absolute":       {plus("/etc/evil"), nil, "absolute"},
		"title is the directory":  {plus("."), nil, "names no file"},
		"title is a directory":    {plus("a/"), nil, "names no file"},
		"title has a NUL":         {plus("a\x00b"), nil, "control characters"},
		"title is long":           {plus(strings.Repeat("a", 300)), nil, "longer"},
		"title is there twice":    {plus("main"), nil, "twice"},
		"file and directory":      {plus("main/evil"), nil, "as a directory"},
		"packed directory": {append(layersOf(prebuilt), layer{title: "dir", data: "x",
			annotations: map[string]string{"io.deis.oras.content.unpack": "true"}}), nil, "packed directory"},
		"too many files": {many, nil, "more than 10000 files"},
		"too large": {layersOf(prebuilt), func(m *ocispec.Manifest) {
			m.Layers[0].Size = 1 << 29
			m.Layers[1].Size = 1<<29 + 1
		}, "larger than 1024 MiB"},
		"size overflows": {layersOf(prebuilt), func(m *ocispec.Manifest) { m.Layers[0].Size = 1<<63 - 1 }, "size"},
	}
	cacheDir := t.TempDir()
	l := newLibrary(t, scenario.Options{CacheDir: cacheDir})
	t.Cleanup(func() {
		if left := entries(t, cacheDir); len(left) > 0 {
			t.Errorf("the cache kept %v", left)
		}
		if evil, _ := filepath.Glob(filepath.Join(cacheDir, "evil")); len(evil) > 0 {
			t.Error("a file was written outside")
		}
	})
	n := 0
	for name, test := range tests {
		n++
		s := pushRaw(t, numbered(host, n), test.layers, test.edit)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := l.Open(t.Context(), s)
			wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, test.says)
		})
	}
}

func TestOpenRefusesAnIndex(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	child := push(t, host+"/web:1", prebuilt)
	s := pushIndex(t, host+"/web:index", child.Digest)
	_, err := newLibrary(t, scenario.Options{}).Open(t.Context(), s)
	wantReason(t, err, ctf.ReasonScenarioMismatch, ctf.Invalid, "index")
}

func TestOpenNeedsNoRegistryTheSecondTime(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	host := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	here, gone := push(t, host+"/web:1", prebuilt), push(t, host+"/web:2", with(map[string]string{"b": ""}))
	cacheDir := t.TempDir()
	first := open(t, newLibrary(t, scenario.Options{CacheDir: cacheDir}), here)
	down.Store(true)

	l := newLibrary(t, scenario.Options{CacheDir: cacheDir})
	again := open(t, l, here)
	if diff := cmp.Diff(first.Binary, again.Binary); diff != "" {
		t.Error(diff)
	}
	_, err := l.Open(t.Context(), gone)
	wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Internal)
}

func TestOpenVerifiesWhatTheRegistrySends(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w http.ResponseWriter){
		"other content": func(w http.ResponseWriter) { _, _ = w.Write([]byte("evil #!/b\n")) },
		"less":          func(w http.ResponseWriter) { _, _ = w.Write([]byte("#!")) },
		"more":          func(w http.ResponseWriter) { _, _ = w.Write([]byte("#!/bin/sh\n rm -rf")) },
		"nothing":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
	}
	for name, corrupt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := startRegistry(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
						corrupt(w)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			cacheDir := t.TempDir()
			_, err := newLibrary(t, scenario.Options{CacheDir: cacheDir}).Open(t.Context(), push(t, host+"/web:1", prebuilt))
			wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Internal)
			if left := entries(t, cacheDir); len(left) > 0 {
				t.Errorf("the cache kept %v", left)
			}
		})
	}
}

func TestOpenSaysThatContentIsGone(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	s := ctf.Scenario{Reference: host + "/web:1", Digest: "sha256:" + strings.Repeat("0", 64)}
	_, err := newLibrary(t, scenario.Options{}).Open(t.Context(), s)
	wantReason(t, err, ctf.ReasonOCIInteraction, ctf.Internal, "push it again")
}

func TestOpenFetchesOnceForMany(t *testing.T) {
	t.Parallel()
	var fetches atomic.Int64
	host := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
				fetches.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	s := push(t, host+"/web:1", prebuilt)
	other := ctf.Scenario{Reference: host + "/web:latest", Digest: s.Digest}
	cacheDir := t.TempDir()
	// Two libraries stand for two processes: their locks exclude each other alike.
	libraries := []*scenario.Library{
		newLibrary(t, scenario.Options{CacheDir: cacheDir}), newLibrary(t, scenario.Options{CacheDir: cacheDir}),
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c, err := libraries[i%2].Open(t.Context(), []ctf.Scenario{s, other}[i/2%2])
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := os.Stat(c.Binary); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := fetches.Load(); got != 1 {
		t.Errorf("%d fetches, want 1", got)
	}
}

func TestOpenGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	asked, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	host := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				once.Do(func() { close(asked) })
				<-proceed
			}
			next.ServeHTTP(w, r)
		})
	})
	s := push(t, host+"/web:1", prebuilt)
	l := newLibrary(t, scenario.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := l.Open(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	close(proceed)
	open(t, l, s)
}

func TestCloseEndsFetches(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	var once sync.Once
	host := startServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-r.Context().Done()
	}))
	l := newLibrary(t, scenario.Options{})
	go func() {
		<-asked
		l.Close()
	}()
	s := ctf.Scenario{Reference: host + "/web:1", Digest: "sha256:" + strings.Repeat("0", 64)}
	if _, err := l.Open(t.Context(), s); err == nil {
		t.Error("a fetch survived the library")
	}
	if _, err := l.Open(t.Context(), s); err == nil {
		t.Error("a closed library fetched")
	}
}
