package function_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
)

// FuzzFromEnvironment gives a function anything as a setting. It is refused by
// the name of its variable, or is what a flag of the same text says, and an empty
// one is as good as none.
func FuzzFromEnvironment(f *testing.F) {
	variables := []string{"ADDRESS", "PORT", "LOG_LEVEL", "SWAGGER", "REDIS_URL", "RECONCILE"}
	for n, value := range []string{"::", "65536", "debug", "T", "redis://a", "1h0.5m", "0x50", "1_0", "-1s", " 8080", ""} {
		f.Add(byte(n), value)
		f.Add(byte(n+1), value)
	}
	parse := func(args ...string) (*function.Settings, *pflag.FlagSet, error) {
		var s function.Settings
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.Register(flags)
		return &s, flags, flags.Parse(args)
	}
	f.Fuzz(func(t *testing.T, which byte, value string) {
		name := variables[int(which)%len(variables)]
		if strings.ContainsRune(value, 0) {
			return // no environment has it
		}
		t.Setenv(name, value)
		flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-")) + "=" + value
		want, _, refused := parse(flag)
		if value == "" {
			want, _, refused = parse()
		}
		got, flags, err := parse()
		if err == nil {
			err = function.FromEnvironment(flags)
		}
		if (err == nil) != (refused == nil) || err != nil && !strings.Contains(err.Error(), name) {
			t.Fatalf("%s=%q: %v, as a flag %v", name, value, err, refused)
		}
		if err != nil {
			return
		}
		if *got != *want {
			t.Errorf("%s=%q is %+v, as a flag %+v", name, value, *got, *want)
		}
		if _, flags, err := parse(flag); err != nil && value != "" || function.FromEnvironment(flags) != nil {
			t.Errorf("%s=%q is taken, and in the way of a flag: %v", name, value, err)
		}
	})
}
