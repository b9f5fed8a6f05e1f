package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// forget is to forget what whoever runs the tests has set.
func forget(t *testing.T) {
	t.Helper()
	for _, name := range variables() {
		t.Setenv(name, "")
	}
}

// The environment says what `make up` is told, and nothing else; the command
// line is stronger.
func TestEnvironment(t *testing.T) {
	forget(t)
	for name, c := range map[string]struct {
		environment map[string]string
		args        []string
		want        map[string]string // the flags that are set
		wrong       string
	}{
		"nothing": {want: map[string]string{}},
		"all that make is told": {
			environment: map[string]string{
				"REGISTRY": "r.example/m", "OVERLAY": "production", "NAMESPACE": "ctf", "PUBLIC": "true", "DOMAIN": "ctf.example",
				"SET": "LOG_LEVEL=debug", "REDIS_IMAGE": "redis:8", "REDIS_VOLUME": "true",
			},
			want: map[string]string{
				"registry": "r.example/m", "overlay": "production", "namespace": "ctf", "public": "true", "domain": "ctf.example",
				"set": "[LOG_LEVEL=debug]", "redis-image": "redis:8", "redis-volume": "true",
			},
		},
		"what others are told": {
			environment: map[string]string{"TIMEOUT": "1s", "CONFIG": "x", "ARCH": "x86_64", "TAG": "v1", "BUILD": "b", "MIRROR": "m", "IMAGE": "i"},
			want:        map[string]string{},
		},
		"the command line":  {map[string]string{"OVERLAY": "production"}, []string{"--overlay", "local"}, map[string]string{"overlay": "local"}, ""},
		"what can't be":     {map[string]string{"PUBLIC": "perhaps"}, nil, nil, "environment variable PUBLIC"},
		"a setting of none": {map[string]string{"SET": "LOG_LEVEL"}, nil, nil, "environment variable SET"},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.environment {
				t.Setenv(variable, value)
			}
			flags := newUpCommand().Flags()
			check(t, flags.Parse(c.args))
			err := fromEnvironment(flags)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%q is not in: %v", c.wrong, err)
				}
				return
			}
			check(t, err)
			set := map[string]string{}
			flags.Visit(func(f *pflag.Flag) { set[f.Name] = f.Value.String() })
			if d := cmp.Diff(c.want, set); d != "" {
				t.Error(d)
			}
		})
	}
}
