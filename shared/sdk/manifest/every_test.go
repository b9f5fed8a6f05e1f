package manifest_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// every loads the manifest that has every key.
func every(t *testing.T) *manifest.Manifest {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"every.yaml": manifest.File, "motd": "motd"} {
		data, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const secret = "6f3a1d0c9b8e7f2a6f3a1d0c9b8e7f2a"

// What each key says arrives at the cluster.
func TestEveryKey(t *testing.T) {
	t.Parallel()
	out, err := deploy(t, every(t), platform(), "secret", secret, "level", "3", "hostname", "play.example", "word", "crow")
	if err != nil {
		t.Fatal(err)
	}
	digits, err := sdk.Derive(secret, identity, "random")
	if err != nil {
		t.Fatal(err)
	}
	options := []sdk.VariateOption{sdk.WithLowercase(true), sdk.WithUppercase(false), sdk.WithNumeric(true), sdk.WithSpecial(false)}
	varied := "CTF{" + sdk.Variate(identity, "one_day", options...) + "}"
	flags := []string{"CTF{crow}", "CTF{" + digits[:16] + "}", varied}
	if !slices.Equal(out.flags, flags) {
		t.Errorf("flags are %q, want %q", out.flags, flags)
	}
	pod := out.at(t, "Deployment/web", "spec", "template", "spec")
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	service := "emp-" + identity + "-db-5432-tcp"
	for _, want := range []string{
		`"command":["/web"]`, `"args":["--level","3","--log","$(LOG)","${literal}"]`, `{"name":"LOG","value":"false"}`,
		`{"name":"NUMBER","value":"0755"}`, `"value":"postgres://` + service + `:5432/100%?me=emp-` + identity + `-web-9090-tcp"`,
		`"secretKeyRef":{"key":"password","name":"shared"}`, `.play.example"}`, `"imagePullSecrets":[{"name":"registry"}]`,
		`"cpu":"0.5"`, `"path":"/health","port":8080`, `"runAsUser":1000`, `"runAsGroup":1000`, `"allowPrivilegeEscalation":true`,
		`"readOnlyRootFilesystem":false`, `"Unconfined"`, `"NET_BIND_SERVICE"`, `"mountPath":"/var/lib/web"`,
		`"exec":{"command":["/web","check"]}`, `"livenessProbe":{"failureThreshold":3,"periodSeconds":10,"tcpSocket":{"port":9090}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the pod has no %s: %s", want, text)
		}
	}
	for _, flag := range flags {
		if strings.Contains(string(text), flag) {
			t.Errorf("the pod has the flag %s in the open", flag)
		}
	}
	var kept []string
	for _, value := range out.at(t, "Secret/web", "data") {
		content, err := base64.StdEncoding.DecodeString(value.(string))
		if err != nil {
			t.Error(err)
		}
		kept = append(kept, string(content))
	}
	content := varied + " of " + identity + " at " + service + "\n"
	if len(kept) != 2 || !slices.Contains(kept, flags[1]) || !slices.Contains(kept, content) {
		t.Errorf("the Secret has %q, want %q and %q", kept, flags[1], content)
	}
	var open []string
	for _, value := range out.at(t, "ConfigMap/web", "data") {
		open = append(open, value.(string))
	}
	slices.Sort(open)
	if want := []string{"hello ${identity}\n", "hello " + identity + "\n"}; !slices.Equal(open, want) {
		t.Errorf("the ConfigMap has %q, want %q", open, want)
	}
	if _, ok := out.at(t, "Deployment/db", "spec", "template", "spec")["containers"].([]any)[0].(map[string]any)["startupProbe"]; ok {
		t.Error("db has a startup probe")
	}
	if want := "which is play.example 30123;\n"; !strings.Contains(out.connection, want) || !strings.HasPrefix(out.connection, "http://") {
		t.Errorf("connection is %q, want %q in it", out.connection, want)
	}
}

// at returns a part of an object.
func (m made) at(t *testing.T, key string, parts ...string) map[string]any {
	t.Helper()
	object := m.objects[key]
	for _, part := range parts {
		object, _ = object[part].(map[string]any)
	}
	if object == nil {
		t.Fatalf("there is no %s of %s", strings.Join(parts, "."), key)
	}
	return object
}

// The schema explains each key, and the manifest with every key has each.
func TestSchema(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(manifest.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/every.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example any
	if err := yaml.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for key, child := range v {
				used[key] = true
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(example)
	definitions, _ := schema["$defs"].(map[string]any)
	definitions["the manifest"] = schema
	for name, definition := range definitions {
		d, _ := definition.(map[string]any)
		properties, _ := d["properties"].(map[string]any)
		if len(properties) > 0 && d["additionalProperties"] != false {
			t.Errorf("%s takes any key", name)
		}
		for key, property := range properties {
			p, _ := property.(map[string]any)
			if description, _ := p["description"].(string); description == "" && name != "rule" && p["$ref"] == nil {
				t.Errorf("%s.%s is not explained", name, key)
			}
			if !used[key] {
				t.Errorf("%s.%s is not in testdata/every.yaml", name, key)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	m := every(t)
	tests := map[string]struct {
		additional []string
		want       string
	}{
		"required":     {nil, `the additional setting "secret" is missing: what flags are derived from`},
		"undeclared":   {[]string{"secret", secret, "image", "evil"}, `no additional setting "image": those that it declares are hostname, level, secret, verbose, word`},
		"a short one":  {[]string{"secret", "short"}, "mayfly.yaml:4:9: secret: it has less than 16 bytes"},
		"no integer":   {[]string{"secret", secret, "level", "x"}, `the additional setting "level" must be an integer, and is "x"`},
		"not listed":   {[]string{"secret", secret, "level", "4"}, `must be 1, 2 or 3, and is "4"`},
		"no boolean":   {[]string{"secret", secret, "verbose", "yes"}, `must be true or false, and is "yes"`},
		"a NUL":        {[]string{"secret", secret, "hostname", "\x00"}, `"hostname" must not have a NUL byte`},
		"no match":     {[]string{"secret", secret, "word", "owl\n"}, `must match [a-z]+, and is "owl\n"`},
		"no host":      {[]string{"secret", secret, "hostname", "no host"}, `mayfly.yaml:3:11: hostname: "no host" is no name of a host`},
		"an address":   {[]string{"secret", secret, "hostname", "192.0.2.1"}, "an Ingress needs a name of a host"},
		"all defaults": {[]string{"secret", secret}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := deploy(t, m, platform(), test.additional...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// What takes the place of a placeholder is never read again.
func TestSettingsAreText(t *testing.T) {
	t.Parallel()
	m := parse(t, `name: web
flags: {flag: "CTF{x}"}
overridable: {text: {}}
containers:
  web:
    image: registry.example/web:1
    args: ["${additional.text}"]
    ports: [{port: 8080, expose: ingress}]
    env: {TEXT: "${additional.text}", SERVICE: "${additional.text} ${service.web}", FLAG: "${flag}"}
    files: {/text: "${additional.text}"}
connection: ${additional.text}
`)
	for _, text := range []string{"${flag}", "$(FLAG)", "$$(FLAG)", "%s", "%!", "'\"\n: {}"} {
		out, err := deploy(t, m, platform(), "text", text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if out.connection != text {
			t.Errorf("connection is %q, want %q", out.connection, text)
		}
		for _, content := range out.at(t, "ConfigMap/web", "data") {
			if content != text {
				t.Errorf("the file has %q, want %q", content, text)
			}
		}
		escaped := strings.ReplaceAll(text, "$", "$$")
		pod, _ := out.at(t, "Deployment/web", "spec", "template", "spec")["containers"].([]any)[0].(map[string]any)
		if args, _ := pod["args"].([]any); args[0] != escaped {
			t.Errorf("the argument is %q, want %q", args[0], escaped)
		}
		for _, variable := range pod["env"].([]any) {
			v, _ := variable.(map[string]any)
			want := escaped
			if v["name"] == "SERVICE" {
				want += " emp-" + identity + "-web-8080-tcp"
			}
			if v["name"] != "FLAG" && v["value"] != want {
				t.Errorf("%s is %q, want %q", v["name"], v["value"], want)
			}
		}
	}
}

func TestFactoryNeedsHostname(t *testing.T) {
	t.Parallel()
	m := parse(t, right)
	if _, err := deploy(t, m, manifest.Platform{}); err == nil || !strings.Contains(err.Error(), "--instance-hostname") {
		t.Errorf("got %v", err)
	}
	m = parse(t, "hostname: ctf.example\n"+right)
	if _, err := deploy(t, m, manifest.Platform{}); err != nil {
		t.Error(err)
	}
}

func TestDefaultConnection(t *testing.T) {
	t.Parallel()
	text := strings.Replace(right, "connection: ${url}\n", "", 1)
	text = strings.Replace(text, "ingress}]", "ingress}, {port: 9, expose: nodeport}, {port: 53, protocol: UDP, expose: nodeport}]", 1)
	out, err := deploy(t, parse(t, text), platform())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.connection, "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], ".ctf.example") || lines[1] != "nc ctf.example 30123" || lines[2] != "nc -u ctf.example 30123" {
		t.Errorf("connection is %q", out.connection)
	}
}
