package manifest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// right is a manifest that tests make mistakes in.
const right = `name: web
flags: {flag: "CTF{x}"}
containers:
  web:
    image: registry.example/web:1
    ports: [{port: 8080, expose: ingress}]
    env:
      A: ${flag}
connection: ${url}
`

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	// Each replaces a part of right, and has what is said, with its line.
	tests := map[string]struct{ old, new, want string }{
		"no YAML":              {"name: web", "name: [", "mayfly.yaml:2:1: it is no YAML"},
		"empty":                {right, "", "mayfly.yaml:1:1: it is empty"},
		"a text":               {right, "hello", "mayfly.yaml:1:1: it must be keys with values, and is a text"},
		"two documents":        {"connection: ${url}", "---\nname: two", "mayfly.yaml:9:1: a second document begins here"},
		"an alias":             {"env:\n      A: ${flag}", "env: &e\n      A: ${flag}\n    files: *e", "mayfly.yaml:9:5: containers.web.files: anchors and aliases are not supported"},
		"a merge":              {"env:", "<<: {}\n    env:", "merging with << is not supported"},
		"a tag":                {"name: web", "name: !!binary d2Vi", "the tag !!binary is not supported"},
		"a key twice":          {"connection:", "name: again\nconnection:", `mayfly.yaml:9:1: name: "name" is there already, in line 1: remove one of the two`},
		"an unknown key":       {"image:", "images: x\n    image:", `mayfly.yaml:5:5: containers.web.images: there is no key "images" here: did you mean image?`},
		"a missing key":        {"    image: registry.example/web:1\n", "", "mayfly.yaml:4:3: containers.web.image: it is missing"},
		"a wrong type":         {"[{port: 8080, expose: ingress}]", "8080", "mayfly.yaml:6:12: containers.web.ports: it must be a list, and is a number"},
		"null":                 {"\n      A: ${flag}", "", "mayfly.yaml:7:9: containers.web.env: it must be keys with values, and is nothing"},
		"a wrong name":         {"name: web", "name: my web", "mayfly.yaml:1:7: name: must be 1 to 100 letters"},
		"a container's name":   {"  web:\n", "  Web_1:\n", `mayfly.yaml:4:3: containers.Web_1: "Web_1" is no name for it: a name is at most 63 lower-case`},
		"a port":               {"port: 8080", "port: 80800", "mayfly.yaml:6:20: containers.web.ports[0].port: it must be at most 65535, and is 80800"},
		"a way to expose":      {"ingress}", "ingres}", "containers.web.ports[0].expose: it must be none, ingress, nodeport or loadbalancer: did you mean ingress?"},
		"nothing exposed":      {", expose: ingress}", "}", "mayfly.yaml:3:1: containers: no port is exposed"},
		"UDP by ingress":       {"expose: ingress", "expose: ingress, protocol: UDP", "mayfly.yaml:6:34: containers.web.ports[0].expose: an Ingress carries HTTP, not UDP"},
		"a port twice":         {"[{port: 8080", "[8080, {port: 8080", "mayfly.yaml:6:19: containers.web.ports[1]: 8080/TCP is there already"},
		"a placeholder":        {"A: ${flag}", "A: ${flagg}", "mayfly.yaml:8:10: containers.web.env.A: ${flagg} is no placeholder here: did you mean ${flag}?"},
		"another placeholder":  {"A: ${flag}", "A: ${HOME}", "write $${ for the characters ${ themselves"},
		"an open placeholder":  {"A: ${flag}", "A: ${flag", "is a placeholder without an end"},
		"an unknown flag":      {"A: ${flag}", "A: ${flags.root}", `there is no flag "root"`},
		"one of many flags":    {"flags: {flag", "flags: {b: x, flag", "${flag} is for manifests with one flag, and this one has 2"},
		"an unknown setting":   {"A: ${flag}", "A: ${additional.x}", `"x" is not declared under overridable`},
		"an unknown container": {"A: ${flag}", "A: ${service.db}", `there is no container "db"`},
		"a port that is not":   {"A: ${flag}", "A: '${service.web:1}'", `container "web" does not listen on 1/TCP`},
		"an address too early": {"ingress}]\n    env:\n      A: ${flag}", "nodeport}]\n    env:\n      A: ${url}", "is not known before the instance runs"},
		"a flag in the image":  {"web:1", "web:${flag}", "${flag} is no placeholder here: there are ${additional.NAME}"},
		"a service as address": {"connection: ${url}", "connection: ${service.web}", "mayfly.yaml:9:13: connection: ${service.web} is no placeholder here"},
		"a hidden port":        {"ingress}]", "ingress}, 9]", ""},
		"which address":        {"ingress}]", "ingress}, {port: 9, expose: nodeport}]", "2 ports are exposed: say which as CONTAINER:PORT"},
		"random, no secret":    {`"CTF{x}"`, "{random: 32}", "mayfly.yaml:2:9: flags.flag: a random flag is derived from the secret, and there is none"},
		"a short secret":       {"flags:", "secret: short\nflags:", "mayfly.yaml:2:9: secret: it has less than 16 bytes"},
		"varied and random":    {`"CTF{x}"`, "{random: 32, varied: x}", "it must have exactly one of random and varied"},
		"neither":              {`"CTF{x}"`, "{format: \"%s\"}", "it must have exactly one of random and varied"},
		"a format":             {`"CTF{x}"`, "{varied: x, format: CTF}", "must have %s in it once"},
		"no ASCII":             {`"CTF{x}"`, "{varied: é}", "must be of ASCII characters only"},
		"an empty flag":        {`"CTF{x}"`, `""`, "the flag is empty"},
		"a quantity":           {"env:", "limits: {memory: lots}\n    env:", `mayfly.yaml:7:22: containers.web.limits.memory: "lots" is no quantity`},
		"an unknown resource":  {"env:", "limits: {gpu: 1}\n    env:", `there is no key "gpu" here`},
		"a request":            {"env:", "limits: {cpu: 1}\n    requests: {cpu: 2}\n    env:", "mayfly.yaml:8:21: containers.web.requests.cpu: 2 is more than the limit of 1"},
		"a variable's name":    {"A: ${flag}", "1A: x", "mayfly.yaml:8:7: containers.web.env.1A: \"1A\" is no name for it"},
		"a relative file":      {"env:", "files: {a/b: x}\n    env:", `mayfly.yaml:7:13: containers.web.files.a/b: "a/b" is no name for it: must be an absolute path`},
		"dots in a file":       {"env:", "files: {/a/../b: x}\n    env:", "is no absolute path without //, . and .."},
		"a rule to nobody":     {"connection:", "rules: [{from: web, to: db, port: 1}]\nconnection:", `mayfly.yaml:9:25: rules[0].to: there is no container "db"`},
		"a rule to no port":    {"connection:", "rules: [{from: web, to: web, port: 1}]\nconnection:", `rules[0].port: container "web" does not listen on 1/TCP`},
		"an egress":            {"env:", "egress: [{to: everywhere}]\n    env:", `mayfly.yaml:7:19: containers.web.egress[0].to: "everywhere" is no range`},
		"metadata":             {"env:", "egress: [{to: 169.254.169.254/32}]\n    env:", "which stays closed"},
		"a capability":         {"env:", "security: {capabilities: [CAP_KILL]}\n    env:", "containers.web.security.capabilities[0]:"},
		"a probe":              {"env:", "startup: true\n    env:", "true says nothing: write false"},
		"a setting's default":  {"connection:", "overridable: {n: {type: integer, default: x}}\nconnection:", `mayfly.yaml:9:43: overridable.n.default: it must be an integer, and is "x"`},
		"a setting's pattern":  {"connection:", "overridable: {n: {pattern: '('}}\nconnection:", "is no regular expression"},
		"a setting's parts":    {"connection:", "overridable: {n: {pattern: 'a)|(b'}}\nconnection:", "is no regular expression"},
		"required and default": {"connection:", "overridable: {n: {required: true, default: x}}\nconnection:", "required and default exclude each other"},
		"large":                {"CTF{x}", strings.Repeat("x", 1<<20), "more than 1 MiB"},
		"infinite":             {"name: web", "name: .inf", "is no number that can be used"},
		"deep":                 {"connection: ${url}", "connection: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "it is nested too deeply"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(right, test.old, test.new, 1)
			_, err := manifest.Parse([]byte(text))
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

// All mistakes are told at once, and what follows from one is no other.
func TestParseSaysEverything(t *testing.T) {
	t.Parallel()
	_, err := manifest.Parse([]byte(`name: web
secret: short
flag: x
containers:
  web:
    ports: [{port: 8080, expose: ingres}]
    env: {A: "${url}", 9: x}
  db:
    imge: registry.example/db:1
    limits: {memory: 5}
rules:
  - {from: web, to: cache, port: 1}
`))
	var wrong *manifest.InvalidError
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	var got []string
	for _, f := range wrong.Findings {
		if f.Severity != manifest.SeverityError || f.Message == "" || f.Rule == "" {
			t.Errorf("incomplete: %+v", f)
		}
		got = append(got, fmt.Sprintf("%d %s", f.Line, f.Path))
	}
	want := []string{
		"2 secret", "3 flag", "5 containers.web.image", "6 containers.web.ports[0].expose",
		"7 containers.web.env.A", "7 containers.web.env[9]", "8 containers.db.image", "9 containers.db.imge",
		"10 containers.db.limits.memory", "12 rules[0].to",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("large", strings.Repeat("x", 1<<20+1))
	write("template", "${nothing}")
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"gone":                      "there is no such file",
		"../x":                      "it is not within the directory",
		"/etc/hostname":             "it is not within the directory",
		"link":                      "escapes",
		"dir":                       "it is no file",
		"large":                     "it is larger than 1 MiB",
		"template, template: true":  "${nothing} is no placeholder here",
		"template":                  "",
		"template, template: false": "",
	} {
		write(manifest.File, strings.Replace(right, "env:", "files: {/a: {from: "+from+"}}\n    env:", 1))
		_, err := manifest.Load(dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mayfly.yaml:7:")) {
			t.Errorf("%s: got %v, want %q", from, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	every, err := os.ReadFile("testdata/every.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{right, string(every), string(manifest.Starter("web")), "", "[", "a: &a [*a]", "? {a: 1}\n: 2", "<<: {<<: 1}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse(data)
		if err == nil && m.Name() == "" {
			t.Error("a manifest without a name")
		}
		var wrong *manifest.InvalidError
		if err != nil && (!errors.As(err, &wrong) || len(wrong.Findings) == 0) {
			t.Errorf("an error without findings: %v", err)
		}
		errs := 0
		for _, finding := range manifest.Lint(data) {
			if finding.Line < 1 || finding.Column < 1 {
				t.Errorf("nowhere: %+v", finding)
			}
			if finding.Severity == manifest.SeverityError {
				errs++
			}
		}
		if (errs > 0) != (err != nil) {
			t.Errorf("%d errors are found, and the manifest is refused: %v", errs, err)
		}
	})
}
