package manifest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// clean is a manifest that there is nothing to say of, to make dangers in.
const clean = `name: web
secret: 6f3a1d0c9b8e7f2a6f3a1d0c9b8e7f2a
flags:
  flag: {random: 32, format: "CTF{%s}"}
overridable:
  level: {default: easy, enum: [easy, hard]}
containers:
  web:
    image: registry.example/web:1
    args: ["${additional.level}"]
    ports: [{port: 8080, expose: ingress}]
    env: {FLAG: "${flag}", DB: "${service.db}"}
    limits: {cpu: 250m, memory: 128Mi}
  db:
    image: registry.example/db@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    ports: [5432]
    limits: {cpu: 250m, memory: 128Mi}
rules: [{from: web, to: db, port: 5432}]
connection: ${url}
`

func TestLint(t *testing.T) {
	t.Parallel()
	const warning, info = manifest.SeverityWarning, manifest.SeverityInfo
	tests := map[string]struct {
		old, new string
		rule     string
		severity manifest.Severity
		line     int
	}{
		"nothing":                  {"", "", "", "", 0},
		"latest":                   {"web:1", "web:latest", "latest-tag", warning, 9},
		"no tag":                   {"web:1", "web", "latest-tag", warning, 9},
		"a registry's port":        {"registry.example/web:1", "registry.example:5000/web", "latest-tag", warning, 9},
		"any image":                {"enum: [easy, hard]}", "}", "", "", 0},
		"an image of anyone":       {"    args:", "    image: ${additional.level}\n    args:", "", manifest.SeverityError, 10},
		"no memory limit":          {"{cpu: 250m, memory: 128Mi}\n  db", "{cpu: 250m}\n  db", "no-limits", info, 13},
		"no limit at all":          {"{cpu: 250m, memory: 128Mi}\n  db", "{cpu: 0, memory: 128Mi}\n  db", "no-limits", warning, 13},
		"root":                     {"    env", "    security: {root: true}\n    env", "runs-as-root", warning, 12},
		"more rights":              {"    env", "    security: {escalation: true}\n    env", "privilege-escalation", warning, 12},
		"any call":                 {"    env", "    security: {seccompUnconfined: true}\n    env", "privileged", warning, 12},
		"a capability":             {"    env", "    security: {capabilities: [NET_BIND_SERVICE, SYS_ADMIN]}\n    env", "privileged", warning, 12},
		"a writable root":          {"    env", "    security: {writableRoot: true}\n    env", "writable-root", info, 12},
		"the Internet":             {"    env", "    egress: [{to: internet}]\n    env", "egress-open", warning, 12},
		"a port of the Internet":   {"    env", "    egress: [{to: internet, port: 443}]\n    env", "egress-open", info, 12},
		"everything":               {"    env", "    egress: [{to: 0.0.0.0/0}]\n    env", "egress-open", warning, 12},
		"a private range":          {"    env", "    egress: [{to: 192.168.0.0/24}]\n    env", "egress-private", warning, 12},
		"a range":                  {"    env", "    egress: [{to: 192.0.2.0/24}]\n    env", "", "", 0},
		"a flag as argument":       {"${additional.level}", "${additional.level} ${flag}", "flag-in-command", warning, 10},
		"a literal flag":           {"FLAG: \"${flag}\"", "FLAG: \"${flag}\", OLD: \"CTF{x}\"", "flag-in-env", warning, 12},
		"a literal flag in a file": {"    env", "    files: {/a: \"FLAG{x}\"}\n    env", "flag-in-file", warning, 12},
		"a shared flag":            {"{random: 32, format: \"CTF{%s}\"}", "CTF{all}", "shared-flag", info, 4},
		"few variants":             {"{random: 32,", "{varied: q,", "few-variants", warning, 4},
		"a flag nowhere":           {"FLAG: \"${flag}\", ", "", "unused-flag", warning, 4},
		"a typed secret":           {"6f3a1d0c9b8e7f2a6f3a1d0c9b8e7f2a", "changemechangeme", "weak-secret", warning, 2},
		"no connection":            {"connection: ${url}\n", "", "no-connection", info, 1},
		"no address":               {"connection: ${url}", "connection: have fun", "no-address", warning, 19},
		"a flag in the connection": {"connection: ${url}", "connection: ${url} ${flag}", "flag-in-connection", warning, 19},
		"no rule":                  {"rules: [{from: web, to: db,", "rules: [{from: db, to: db,", "no-rule", warning, 12},
		"nobody comes":             {"rules: [{from: web, to: db, port: 5432}]\n", "", "unreachable", warning, 16},
		"an unused setting":        {"    args: [\"${additional.level}\"]\n", "", "unused-setting", warning, 6},
		"no HTTP":                  {"{port: 8080, expose", "{port: 22, expose", "not-http", warning, 11},
		"no probe":                 {"    env", "    startup: false\n    env", "no-probe", info, 11},
		"copies":                   {"    env", "    replicas: 2\n    env", "replicas", info, 12},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := manifest.Lint([]byte(strings.Replace(clean, test.old, test.new, 1)))
			if test.rule == "" && test.severity == "" {
				for _, f := range found {
					t.Error(f)
				}
				return
			}
			is := func(f manifest.Finding) bool {
				return (test.rule == "" || f.Rule == test.rule) && f.Severity == test.severity && f.Line == test.line && f.Message != "" && f.Fix != ""
			}
			if !slices.ContainsFunc(found, is) {
				t.Errorf("got %+v", found)
			}
		})
	}
}

func TestLintOfAnyImage(t *testing.T) {
	t.Parallel()
	text := strings.Replace(clean, "registry.example/web:1", "${additional.image}", 1)
	open := strings.Replace(text, "overridable:", "overridable:\n  image: {default: a}", 1)
	if found := manifest.Lint([]byte(open)); len(found) != 1 || found[0].Rule != "open-image" || found[0].Line != 10 {
		t.Errorf("got %v", found)
	}
	bound := strings.Replace(text, "overridable:", "overridable:\n  image: {default: a, pattern: \"[a-z]\"}", 1)
	if found := manifest.Lint([]byte(bound)); len(found) != 0 {
		t.Errorf("got %v", found)
	}
}
