package process

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"
)

const (
	defaultReadyTimeout = 30 * time.Second
	maxReadyTimeout     = 10 * time.Minute
	// portMark is replaced by the program's port, in arguments and environment.
	portMark = "{port}"
)

// inputs are what an author says of a program.
type inputs struct {
	command      string
	args         []string
	env          map[string]string
	files        map[string]*asset.Asset // by slash path below the working directory
	readyTimeout time.Duration
}

// parseInputs reads what is known and tells what is wrong with it. Unknown
// values are no failure and leave their field empty.
func parseInputs(props resource.PropertyMap) (inputs, []plugin.CheckFailure) {
	in := inputs{readyTimeout: defaultReadyTimeout}
	var failures []plugin.CheckFailure
	for _, key := range props.StableKeys() {
		v := plain(props[key])
		if v.ContainsUnknowns() || v.IsNull() {
			continue
		}
		if err := in.set(string(key), v); err != nil {
			failures = append(failures, plugin.CheckFailure{Property: key, Reason: err.Error()})
		}
	}
	if v := plain(props["command"]); v.IsNull() || v.V == nil {
		failures = append(failures, plugin.CheckFailure{Property: "command", Reason: "is required: the program to start"})
	}
	return in, failures
}

func (in *inputs) set(key string, v resource.PropertyValue) error {
	switch key {
	case "command":
		return in.setCommand(v)
	case "args":
		return in.setArgs(v)
	case "env":
		return in.setEnv(v)
	case "files":
		return in.setFiles(v)
	case "readyTimeout":
		return in.setReadyTimeout(v)
	case "__defaults":
		return nil
	}
	return fmt.Errorf("is not a property of %s; it has command, args, env, files and readyTimeout", Type)
}

func (in *inputs) setCommand(v resource.PropertyValue) error {
	s, err := text(v)
	if err == nil && s == "" {
		return fmt.Errorf("must not be empty")
	}
	in.command = s
	return err
}

func (in *inputs) setArgs(v resource.PropertyValue) error {
	if !v.IsArray() {
		return fmt.Errorf("must be a list of strings, is %s", v.TypeString())
	}
	for i, item := range v.ArrayValue() {
		s, err := text(item)
		if err != nil {
			return fmt.Errorf("item %d %w", i, err)
		}
		in.args = append(in.args, s)
	}
	return nil
}

func (in *inputs) setEnv(v resource.PropertyValue) error {
	if !v.IsObject() {
		return fmt.Errorf("must be a map of strings, is %s", v.TypeString())
	}
	in.env = make(map[string]string)
	for k, item := range v.ObjectValue() {
		s, err := text(item)
		switch {
		case err != nil:
			return fmt.Errorf("%q %w", string(k), err)
		case k == "" || strings.ContainsAny(string(k), "=\x00"):
			return fmt.Errorf("%q is not a name of an environment variable", string(k))
		case k == markerVariable || k == portVariable:
			return fmt.Errorf("%s is set by Mayfly", k)
		}
		in.env[string(k)] = s
	}
	return nil
}

func (in *inputs) setFiles(v resource.PropertyValue) error {
	if !v.IsObject() {
		return fmt.Errorf("must be a map of assets, is %s", v.TypeString())
	}
	in.files = make(map[string]*asset.Asset)
	for k, item := range v.ObjectValue() {
		name := string(k)
		switch {
		case !cleanRelative(name):
			return fmt.Errorf("%q must be a relative path without . and .. in it", name)
		case !item.IsAsset():
			return fmt.Errorf("%q must be an asset, is %s", name, item.TypeString())
		case item.AssetValue().IsURI():
			return fmt.Errorf("%q must be a file or a text, not a remote asset", name)
		}
		in.files[name] = item.AssetValue()
	}
	return nil
}

func (in *inputs) setReadyTimeout(v resource.PropertyValue) error {
	if !v.IsNumber() {
		return fmt.Errorf("must be a number of seconds, is %s", v.TypeString())
	}
	seconds := v.NumberValue()
	if math.IsNaN(seconds) || seconds <= 0 || seconds > maxReadyTimeout.Seconds() {
		return fmt.Errorf("must be above 0 and at most %.0f seconds", maxReadyTimeout.Seconds())
	}
	in.readyTimeout = time.Duration(seconds * float64(time.Second))
	return nil
}

// withPort puts the port in its places.
func (in inputs) withPort(port int) (args, env []string) {
	number := strconv.Itoa(port)
	for _, a := range in.args {
		args = append(args, strings.ReplaceAll(a, portMark, number))
	}
	for k, v := range in.env {
		env = append(env, k+"="+strings.ReplaceAll(v, portMark, number))
	}
	return args, append(env, portVariable+"="+number)
}

// commandFile returns which of the files the command names, if it names one.
func (in inputs) commandFile() (string, bool) {
	if in.command == "" || filepath.IsAbs(in.command) {
		return "", false
	}
	name := filepath.ToSlash(filepath.Clean(in.command))
	_, ok := in.files[name]
	return name, ok
}

func cleanRelative(name string) bool {
	return name != "." && filepath.IsLocal(name) && filepath.ToSlash(filepath.Clean(name)) == name &&
		!strings.ContainsRune(name, 0)
}

func text(v resource.PropertyValue) (string, error) {
	if !v.IsString() {
		return "", fmt.Errorf("must be a string, is %s", v.TypeString())
	}
	s := v.StringValue()
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("must not contain a zero byte")
	}
	return s, nil
}

// plain returns the value without the marks of secrets and outputs, all the
// way down. An output that is not known becomes a computed value.
func plain(v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return plain(v.SecretValue().Element)
	case v.IsOutput():
		if o := v.OutputValue(); o.Known {
			return plain(o.Element)
		}
		return resource.MakeComputed(resource.NewProperty(""))
	case v.IsArray():
		items := make([]resource.PropertyValue, 0, len(v.ArrayValue()))
		for _, item := range v.ArrayValue() {
			items = append(items, plain(item))
		}
		return resource.NewProperty(items)
	case v.IsObject():
		return resource.NewProperty(plainMap(v.ObjectValue()))
	}
	return v
}

func plainMap(m resource.PropertyMap) resource.PropertyMap {
	out := make(resource.PropertyMap, len(m))
	for k, v := range m {
		out[k] = plain(v)
	}
	return out
}
