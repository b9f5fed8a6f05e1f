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
	parse := func(args ...string) (*function.Settings, *pflag.FlagSet, error) {
		var s function.Settings
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.Register(flags)
		return &s, flags, flags.Parse(args)
	}
	_, all, err := parse()
	if err != nil {
		f.Fatal(err)
	}
	var names []string // sorted
	all.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	values := []string{"::", "65536", "debug", "T", "redis://a", "1h0.5m", "0x50", "1_0", "-1s", " 8080", "256", ""}
	for n := range names {
		for _, value := range values {
			f.Add(byte(n), value)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, value string) {
		option := names[int(which)%len(names)]
		name := strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
		if strings.ContainsRune(value, 0) {
			return // no environment has it
		}
		t.Setenv(name, value)
		flag := "--" + option + "=" + value
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
