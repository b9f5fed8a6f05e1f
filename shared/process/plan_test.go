package process_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"github.com/mayfly-ctf/mayfly/shared/process"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	unknown := resource.MakeComputed(resource.NewProperty(""))
	str := func(s string) resource.PropertyValue { return resource.NewProperty(s) }
	one := func(k string, v resource.PropertyValue) resource.PropertyValue {
		return resource.NewProperty(resource.PropertyMap{resource.PropertyKey(k): v})
	}
	file, err := asset.FromText("x")
	ok(t, err)
	remote := &asset.Asset{Sig: asset.AssetSig, URI: "https://example.org/x"}
	list := func(v ...resource.PropertyValue) resource.PropertyValue { return resource.NewProperty(v) }
	for name, tc := range map[string]struct {
		key   resource.PropertyKey
		value resource.PropertyValue
		want  string // the property at fault, and why
	}{
		"program on the path":         {"command", str("sh"), ""},
		"program of a file":           {"command", str("./run"), ""},
		"unknown command":             {"command", unknown, ""},
		"unknown arguments":           {"args", list(unknown), ""},
		"unknown file":                {"files", one("run", resource.NewOutputProperty(resource.Output{})), ""},
		"secret":                      {"env", one("FLAG", resource.MakeSecret(str("x"))), ""},
		"no command":                  {"command", resource.NewNullProperty(), "command: is required"},
		"empty command":               {"command", str(""), "command: must not be empty"},
		"command of a wrong type":     {"command", resource.NewProperty(3.0), "command: must be a string, is number"},
		"command that is not there":   {"command", str("no-such-program"), "command: no-such-program is neither"},
		"command outside":             {"command", str("../run"), "command: ../run is not one of the files"},
		"arguments of a wrong type":   {"args", str("x"), "args: must be a list"},
		"argument of a wrong type":    {"args", list(str("x"), resource.NewProperty(true)), "args: item 1 must be a string"},
		"argument with a zero byte":   {"args", list(str("\x00")), "args: item 0 must not contain a zero byte"},
		"environment of a wrong type": {"env", list(), "env: must be a map"},
		"variable without a name":     {"env", one("", str("x")), "env: \"\" is not a name"},
		"variable that is ours":       {"env", one("PORT", str("1")), "env: PORT is set by Mayfly"},
		"file above":                  {"files", one("../x", resource.NewProperty(file)), "files: \"../x\" must be a relative path"},
		"absolute file":               {"files", one("/x", resource.NewProperty(file)), "files: \"/x\" must be a relative path"},
		"file that is none":           {"files", one("x", str("y")), "files: \"x\" must be an asset"},
		"remote file":                 {"files", one("x", resource.NewProperty(remote)), "files: \"x\" must be a file or a text"},
		"no time":                     {"readyTimeout", resource.NewProperty(0.0), "readyTimeout: must be above 0"},
		"too much time":               {"readyTimeout", resource.NewProperty(1e9), "readyTimeout: must be above 0 and at most 600"},
		"unknown property":            {"image", str("x"), "image: is not a property"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			props := resource.PropertyMap{"command": str("sh"), "files": one("run", resource.NewProperty(file))}
			props[tc.key] = tc.value
			r, err := newProvider(t, process.Options{}).Check(t.Context(), plugin.CheckRequest{
				URN: urn(identity, "riddle"), News: props, AllowUnknowns: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			var got string
			for _, f := range r.Failures {
				got += string(f.Property) + ": " + f.Reason
			}
			if !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("failures = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCheckOfAnotherType(t *testing.T) {
	t.Parallel()
	_, err := newProvider(t, process.Options{}).Check(t.Context(), plugin.CheckRequest{
		URN: "urn:pulumi:i::p::process:index:Thread::x",
	})
	if err == nil || !strings.Contains(err.Error(), "no resource process:index:Thread") {
		t.Errorf("error = %v", err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	p := newProvider(t, process.Options{})
	before, err := asset.FromText("1")
	ok(t, err)
	after, err := asset.FromText("2")
	ok(t, err)
	older := with(role("serve"), "files", resource.NewProperty(resource.PropertyMap{"x": resource.NewProperty(before)}))
	r := create(t, p, "riddle", older)
	diff := func(newer resource.PropertyMap) plugin.DiffResponse {
		d, err := p.Diff(t.Context(), plugin.DiffRequest{
			URN: urn(identity, "riddle"), ID: r.ID, OldInputs: older, OldOutputs: r.Properties, NewInputs: newer,
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, tc := range map[string]struct {
		newer resource.PropertyMap
		want  []resource.PropertyKey
	}{
		"same":      {older.Copy(), nil},
		"secret":    {with(older, "env", resource.MakeSecret(older["env"])), nil},
		"timeout":   {with(older, "readyTimeout", resource.NewProperty(3.0)), nil},
		"command":   {with(older, "command", resource.NewProperty("sh")), []resource.PropertyKey{"command"}},
		"arguments": {with(older, "args", resource.NewProperty([]resource.PropertyValue{})), []resource.PropertyKey{"args"}},
		"unknown":   {with(older, "env", resource.MakeComputed(resource.NewProperty(""))), []resource.PropertyKey{"env"}},
		"files": {with(older, "files", resource.NewProperty(resource.PropertyMap{"x": resource.NewProperty(after)})),
			[]resource.PropertyKey{"files"}},
	} {
		d := diff(tc.newer)
		if x := cmp.Diff(tc.want, d.ReplaceKeys); x != "" || d.DeleteBeforeReplace != (tc.want != nil) {
			t.Errorf("%s: %+v %s", name, d, x)
		}
	}
	ok(t, syscall.Kill(pid(r.Properties), syscall.SIGKILL))
	eventually(t, "the program ends", func() bool { return !running(pid(r.Properties)) })
	if d := diff(older); !d.Replace() {
		t.Errorf("a program that ended is not replaced: %+v", d)
	}
}
