package stack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mayfly-ctf/mayfly/deploy/install"
	"github.com/mayfly-ctf/mayfly/deploy/stack/stacktest"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

const root = "../.."

// TestMain is a worker when it is told to, as the binary of a real service is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		os.Exit(engine.Work(context.Background(), engine.Providers{
			"kubernetes": func() (plugin.Provider, error) { return &recorder{dir: os.Args[2]}, nil },
		}, nil))
	}
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newStack returns a stack whose objects are files in a directory.
func newStack(t *testing.T, program stacktest.Program) (s *stacktest.Stack, dir string) {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	dir = t.TempDir()
	return stacktest.New(t, root, program, []string{self, "worker", dir}, nil), dir
}

// configuration is one that is right.
func configuration() stacktest.Configuration {
	return stacktest.Configuration{
		Plain: map[string]any{
			"namespace": "ctf",
			"images": map[string]any{
				"api": "registry.example/m/api:1", "engine": "registry.example/m/engine:1", "redis": "registry.example/redis:8",
			},
		},
		Secret: map[string]string{"keys": redis.NewKey(), "redisPassword": "0123456789abcdef"},
	}
}

// options are those of `make up` that say the same as the configuration.
func options(c stacktest.Configuration) install.Options {
	o := install.Options{Config: filepath.Join(root, "config"), Overlay: "production", Namespace: "ctf", Images: map[string]string{}}
	o.Token, o.RegistryPassword = c.Secret["token"], c.Secret["registryPassword"]
	images, _ := c.Plain["images"].(map[string]any)
	for name, reference := range images {
		o.Images[name], _ = reference.(string)
	}
	return o
}

// calls are what was done since the last look, in order.
func calls(t *testing.T, dir string) []string {
	t.Helper()
	file := filepath.Join(dir, "calls")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	check(t, err)
	check(t, os.Remove(file))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// objects are those in a directory, without what the program adds for Pulumi's
// provider.
func objects(t *testing.T, dir string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		check(t, err)
		object := unstructured.Unstructured{}
		check(t, json.Unmarshal(text, &object.Object))
		annotations := object.GetAnnotations()
		maps.DeleteFunc(annotations, func(key, _ string) bool { return strings.HasPrefix(key, "pulumi.com/") })
		if object.SetAnnotations(annotations); len(annotations) == 0 {
			object.SetAnnotations(nil)
		}
		found[entry.Name()] = object.Object
	}
	return found
}

// want are the objects of `make up` and the Secrets, as files.
func want(t *testing.T, c stacktest.Configuration, o install.Options) map[string]map[string]any {
	t.Helper()
	rendered, err := install.Render(o)
	check(t, err)
	secrets := install.Secrets{RedisPassword: c.Secret["redisPassword"], Keys: c.Secret["keys"]}
	check(t, secrets.Stamp(o, rendered))
	all := map[string]map[string]any{}
	for _, object := range append(rendered, secrets.Objects(o)...) {
		if text, ok := object.Object["stringData"]; ok {
			object.Object["stringData"] = map[string]any{"secret": text}
		}
		text, err := json.Marshal(object.Object)
		check(t, err)
		var fields map[string]any
		check(t, json.Unmarshal(text, &fields))
		all[strings.ReplaceAll(strings.TrimSpace(object.GetKind()+" "+strings.TrimPrefix(object.GetNamespace()+"/"+object.GetName(), "/")), "/", " ")] = fields
	}
	return all
}

// TestProgram runs the program through the engine, with a provider that keeps
// objects in files.
func TestProgram(t *testing.T) {
	t.Parallel()
	program := stacktest.Build(t, root)
	t.Run("stack", func(t *testing.T) { t.Parallel(); testStack(t, program) })
	t.Run("refusals", func(t *testing.T) { t.Parallel(); testRefusals(t, program) })
}

// The objects are those of `make up`, made and removed in the order in which
// they need one another; the same again changes nothing, and another setting
// what depends on it.
func testStack(t *testing.T, program stacktest.Program) {
	s, dir := newStack(t, program)
	c := configuration()
	check(t, s.Preview(c))
	if done := calls(t, dir); done != nil {
		t.Fatalf("a preview did: %v", done)
	}
	check(t, s.Up(c))
	made := calls(t, dir)
	wantOrder(t, made, "create", 1)
	wantSame(t, want(t, c, options(c)), objects(t, dir))

	check(t, s.Up(c))
	if done := calls(t, dir); done != nil {
		t.Errorf("the same again did: %v", done)
	}

	c.Plain["settings"] = map[string]any{"LOG_LEVEL": "debug", "WORKERS": 4}
	check(t, s.Up(c))
	done := calls(t, dir)
	for i, call := range done {
		if verb := []string{"create ConfigMap ctf settings-", "update Service ctf "}[min(i, 1)]; !strings.HasPrefix(call, verb) {
			t.Errorf("another setting did, as number %d: %s", i, call)
		}
	}

	c.Secret["token"] = "a-token-that-is-long"
	c.Secret["registryPassword"] = "of-the-registry"
	c.Plain["settings"] = map[string]any{"LOG_LEVEL": "debug", "WORKERS": 4, "OCI_USERNAME": "ctf", "OCI_REGISTRY": "registry.example"}
	c.Plain["domain"] = "api.ctf.example"
	c.Plain["instanceDomain"] = "games.ctf.example"
	c.Plain["scale"] = map[string]any{"gateway": map[string]any{"min": 1}, "expire": map[string]any{"min": 0, "max": 7}}
	check(t, s.Up(c))
	o := options(c)
	none, one, seven := 0, 1, 7
	o.Domain, o.Scale = "api.ctf.example", map[string]install.Scale{"gateway": {Min: &one}, "expire": {Min: &none, Max: &seven}}
	o.Settings = map[string]string{
		"LOG_LEVEL": "debug", "WORKERS": "4", "INSTANCE_HOSTNAME": "games.ctf.example", "OCI_USERNAME": "ctf", "OCI_REGISTRY": "registry.example",
	}
	calls(t, dir)
	wantSame(t, want(t, c, o), objects(t, dir))

	check(t, s.Destroy(t.Context()))
	wantOrder(t, calls(t, dir), "delete", -1)
	if left := objects(t, dir); len(left) > 0 {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(left)))
	}
}

func wantSame(t *testing.T, want, got map[string]map[string]any) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if d := gocmp.Diff(want[name], got[name]); d != "" {
			t.Errorf("%s is another than that of make up: %s", name, d)
		}
		delete(got, name)
	}
	// Pods of the revisions before read these.
	maps.DeleteFunc(got, func(name string, _ map[string]any) bool { return strings.HasPrefix(name, "ConfigMap ctf settings-") })
	if len(got) > 0 {
		t.Errorf("make up does not make %v", slices.Sorted(maps.Keys(got)))
	}
}

// wantOrder fails unless all was done with the verb and in the order of stages,
// or the other way round.
func wantOrder(t *testing.T, done []string, verb string, way int) {
	t.Helper()
	stage := func(call string) int {
		kind := strings.Fields(call)[1]
		switch {
		case kind == "Namespace":
			return 0
		case kind == "StatefulSet":
			return 2
		case kind == "Service" && !strings.HasSuffix(call, " redis"):
			return 3
		case slices.Contains([]string{"Broker", "Trigger", "PingSource", "DomainMapping"}, kind):
			return 4
		}
		return 1
	}
	if !slices.IsSortedFunc(done, func(a, b string) int { return way * cmp.Compare(stage(a), stage(b)) }) {
		t.Errorf("not in the order of stages: %s", strings.Join(done, "\n"))
	}
	for _, call := range done {
		if !strings.HasPrefix(call, verb+" ") {
			t.Errorf("did %s", call)
		}
	}
}

// What can't be is refused before anything is made, and every mistake is named.
func testRefusals(t *testing.T, program stacktest.Program) {
	s, dir := newStack(t, program)
	const address = "redis://:password@redis.example:6379"
	for name, c := range map[string]struct {
		change func(stacktest.Configuration)
		want   []string
	}{
		"public without a token": {func(c stacktest.Configuration) { c.Plain["public"] = "true" }, []string{"public without a token"}},
		"domain without a token": {func(c stacktest.Configuration) { c.Plain["domain"] = "api.ctf.example" }, []string{"public without a token"}},
		"two Redis":              {func(c stacktest.Configuration) { c.Secret["redisAddress"] = address }, []string{"image redis", "redis password"}},
		"no password":            {func(c stacktest.Configuration) { delete(c.Secret, "redisPassword") }, []string{"redis password", "openssl rand"}},
		"an odd password":        {func(c stacktest.Configuration) { c.Secret["redisPassword"] = "--save x" }, []string{"redis password", "letters and digits"}},
		"no keys":                {func(c stacktest.Configuration) { delete(c.Secret, "keys") }, []string{"keys", "openssl rand"}},
		"keys that are none":     {func(c stacktest.Configuration) { c.Secret["keys"] = "k1:c2hvcnQ=" }, []string{"keys", "k1", "32 bytes"}},
		"a token with spaces":    {func(c stacktest.Configuration) { c.Secret["token"] = "a token" }, []string{"token", "spaces"}},
		"a token of spaces":      {func(c stacktest.Configuration) { c.Secret["token"], c.Plain["public"] = " ", "true" }, []string{"token", "spaces"}},
		"a secret that is none": {func(c stacktest.Configuration) { c.Plain["token"] = "everybody-may-read-it" }, []string{
			"token", "pulumi config set --secret token",
		}},
		"a key nobody knows": {func(c stacktest.Configuration) { c.Plain["namepsace"] = "ctf" }, []string{"namepsace", "namespace"}},
		"a field nobody knows": {func(c stacktest.Configuration) {
			c.Plain["scale"] = map[string]any{"gateway": map[string]any{"most": 1}}
		}, []string{"scale", "most"}},
		"a bound that is none": {func(c stacktest.Configuration) {
			c.Plain["scale"] = map[string]any{"gateway": map[string]any{"max": 0}}
		}, []string{"scale of gateway", "max is 0"}},
		"a host that is none":    {func(c stacktest.Configuration) { c.Plain["instanceDomain"] = "games of ctf" }, []string{"instanceDomain"}},
		"a host given twice":     {func(c stacktest.Configuration) { twice(c) }, []string{"instanceDomain", "INSTANCE_HOSTNAME"}},
		"a setting that is many": {func(c stacktest.Configuration) { c.Plain["settings"] = map[string]any{"A": []string{"b"}} }, []string{"settings", "A"}},
		"a type of another kind": {func(c stacktest.Configuration) { c.Plain["public"] = "perhaps" }, []string{"public", "boolean"}},
		"an object that is text": {func(c stacktest.Configuration) { c.Plain["images"] = "api" }, []string{"images", "object"}},
		"all at once": {func(c stacktest.Configuration) {
			c.Plain["public"], c.Plain["namespace"], c.Plain["nothing"] = "true", strings.Repeat("n", 60), "x"
			c.Plain["scale"] = map[string]any{"nobody": map[string]any{"min": 1}}
			delete(c.Secret, "keys")
		}, []string{"public without a token", "namespace", "nothing", "scale of nobody", "keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := configuration()
			c.change(c2)
			err := s.Preview(c2)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		})
	}
	if done := calls(t, dir); done != nil {
		t.Errorf("refusals did: %v", done)
	}
}

func twice(c stacktest.Configuration) {
	c.Plain["instanceDomain"] = "games.ctf.example"
	c.Plain["settings"] = map[string]any{"INSTANCE_HOSTNAME": "other.example"}
}
