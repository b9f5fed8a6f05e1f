package stack

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// FuzzSettings reads any configuration. What is taken says the same once it is
// written again; what is refused says which key is wrong, and tells no secret.
func FuzzSettings(f *testing.F) {
	f.Add(`{"api":"registry.example/m/api:1"}`, `{"gateway":{"min":1,"max":7}}`, `{"LOG_LEVEL":"debug","WORKERS":4,"OCI_INSECURE":true}`,
		"games.ctf.example", "true", "k1:of-the-installation", true, "domain", "api.ctf.example")
	f.Add(`{"api":1}{}`, `{"gateway":{"most":1}}`, `{"A":[]}`, "games of ctf", "perhaps", "k1:of-the-installation", false, "namepsace", "x")
	f.Add(`null`, `{"gateway":null}`, `{"INSTANCE_HOSTNAME":"a"}`, "a", "", "", false, "", "")
	f.Add(`[]`, `{"gateway":{"min":1e400}}`, `{"A":1e400}`, "::1", "T", "x", true, "keys", "y")
	f.Fuzz(func(t *testing.T, images, scale, settings, domain, public, keys string, secret bool, name, value string) {
		if !utf8.ValidString(name) {
			return // the environment has none
		}
		given := map[string]string{
			"images": images, "scale": scale, "settings": settings, "instanceDomain": domain, "public": public, "keys": keys, name: value,
		}
		s, err := readAll(t, given, secret)
		if err != nil {
			wantKeys(t, err, given)
			if others := images + scale + settings + domain + public + name + value; len(keys) > 8 && given["keys"] == keys &&
				!strings.Contains(others, keys) && strings.Contains(err.Error(), keys) {
				t.Errorf("it tells the secret: %v", err)
			}
			return
		}
		if given["keys"] != "" && !secret {
			t.Error("a secret is taken that everybody may read")
		}
		if domain := given["instanceDomain"]; domain != "" && s.options.Settings[instanceHostname] != domain {
			t.Errorf("instances are at %q, want %q", s.options.Settings[instanceHostname], domain)
		}
		maps.Copy(given, map[string]string{
			"images": encoded(t, s.options.Images), "scale": encoded(t, s.options.Scale), "settings": encoded(t, s.options.Settings),
			"instanceDomain": "", "public": strconv.FormatBool(s.options.Public),
		})
		again, err := readAll(t, given, secret)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s.options, again.options, cmpopts.EquateEmpty()) + cmp.Diff(s.secrets, again.secrets); d != "" {
			t.Errorf("it is another once it is written: %s", d)
		}
	})
}

// readAll reads a configuration in which all that may be a secret is one, or
// nothing is.
func readAll(t *testing.T, given map[string]string, secret bool) (*settings, error) {
	t.Helper()
	const project = "mayfly"
	config := map[string]string{}
	for key, value := range given {
		config[project+":"+key] = value
	}
	info := pulumi.RunInfo{Project: project, Config: config}
	if secret {
		info.ConfigSecretKeys = slices.Collect(maps.Keys(config))
	}
	t.Setenv(pulumi.EnvConfig, encoded(t, config))
	ctx, err := pulumi.NewContext(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ctx.Close(); err != nil {
			t.Error(err)
		}
	}()
	return read(ctx)
}

// wantKeys fails unless each mistake begins with the key that it is about.
func wantKeys(t *testing.T, err error, given map[string]string) {
	t.Helper()
	all, ok := err.(interface{ Unwrap() []error }) // as of errors.Join
	if !ok {
		t.Fatalf("it does not say how many mistakes there are: %v", err)
	}
	for _, one := range all.Unwrap() {
		about := func(key string) bool { return strings.HasPrefix(one.Error(), key+": ") }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(given)), about) {
			t.Errorf("it is about no key: %v", one)
		}
	}
}

func encoded(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
