package stack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mayfly-ctf/mayfly/deploy/install"
)

// instanceHostname is the setting of the functions that instanceDomain is.
const instanceHostname = "INSTANCE_HOSTNAME"

// settings are the configuration of a stack.
type settings struct {
	options install.Options
	secrets install.Secrets
}

// read reads the configuration; Pulumi.yaml has the keys and their defaults. The
// error joins what can't be read, and the settings are what can.
func read(ctx *pulumi.Context) (*settings, error) {
	r := &reader{ctx: ctx, known: map[string]bool{}}
	s := &settings{
		options: install.Options{
			Config: r.text("config"), Overlay: r.text("overlay"), Namespace: r.text("namespace"),
			Public: r.flag("public"), Domain: r.text("domain"), Redis: r.secret("redisAddress"),
			Token: r.secret("token"), RegistryPassword: r.secret("registryPassword"),
		},
		secrets: install.Secrets{
			RedisPassword: r.secret("redisPassword"), Keys: r.secret("keys"),
		},
	}
	if s.options.Namespace == "" {
		s.options.Namespace = install.DefaultNamespace
	}
	r.object("images", &s.options.Images)
	r.object("scale", &s.options.Scale)
	s.options.Settings = r.settings()
	r.strangers()
	return s, errors.Join(r.wrong...)
}

// A reader reads configuration and collects what is wrong with it.
type reader struct {
	ctx   *pulumi.Context
	known map[string]bool
	wrong []error
}

func (r *reader) fail(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

// text returns what a key has, empty if nothing.
func (r *reader) text(key string) string {
	key = r.ctx.Project() + ":" + key
	r.known[key] = true
	value, _ := r.ctx.GetConfig(key)
	return value
}

// secret is text that must have been stored encrypted.
func (r *reader) secret(key string) string {
	value := r.text(key)
	if value != "" && !r.ctx.IsConfigSecret(r.ctx.Project()+":"+key) {
		r.fail("%s: it is a secret and stored for everybody to read: `pulumi config set --secret %s` encrypts it", key, key)
	}
	return value
}

func (r *reader) flag(key string) bool {
	text := r.text(key)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		r.fail("%s: it must be true or false, and is %q", key, text)
	}
	return value
}

// object reads what was set by `pulumi config set --path`.
func (r *reader) object(key string, into any) {
	text := []byte(r.text(key))
	if len(text) == 0 {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	err := decoder.Decode(into)
	if err == nil && len(bytes.TrimSpace(text[decoder.InputOffset():])) > 0 {
		err = errors.New("something follows the object")
	}
	if err != nil {
		r.fail("%s: %s", key, strings.TrimPrefix(err.Error(), "json: "))
	}
}

// settings are those of the functions. Pulumi makes a number of text that looks
// like one.
func (r *reader) settings() map[string]string {
	var given map[string]any
	r.object("settings", &given)
	settings := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch value := given[name].(type) {
		case string, json.Number, bool:
			settings[name] = fmt.Sprint(value)
		default:
			r.fail("settings: %s must be a text, and is %v", name, value)
		}
	}
	r.instances(settings)
	return settings
}

// instances adds the host of instances to the settings of the functions.
func (r *reader) instances(settings map[string]string) {
	host := r.text("instanceDomain")
	if host == "" {
		return
	}
	_, noAddress := netip.ParseAddr(host)
	if len(validation.IsDNS1123Subdomain(host)) > 0 && noAddress != nil {
		r.fail("instanceDomain: %q is no name of a host, as games.ctf.example", host)
	}
	if _, twice := settings[instanceHostname]; twice {
		r.fail("instanceDomain: settings have it too, as %s: leave one of the two out", instanceHostname)
	}
	settings[instanceHostname] = host
}

// strangers finds keys of the project that mean nothing: a mistake in writing
// would go unnoticed. All keys are known to the environment alone.
func (r *reader) strangers() {
	var all map[string]string
	if json.Unmarshal([]byte(os.Getenv(pulumi.EnvConfig)), &all) != nil {
		return // the program was not started by Pulumi's command line
	}
	names := slices.Sorted(maps.Keys(r.known))
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], r.ctx.Project()+":")
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if name, ours := strings.CutPrefix(key, r.ctx.Project()+":"); ours && !r.known[key] {
			r.fail("%s: there is no such key: there are %s", name, strings.Join(names, ", "))
		}
	}
}
