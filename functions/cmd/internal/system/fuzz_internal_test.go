package system

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/functions/cmd/internal/function"
)

// FuzzFunctionFromEnvironment gives a function that runs the engine anything as a
// setting. It is refused by the name of its variable, or is what a flag of the
// same text says, and an empty one is as good as none.
func FuzzFunctionFromEnvironment(f *testing.F) {
	parse := func(args ...string) (*Function, *pflag.FlagSet, error) {
		s := new(Function)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.Register(flags)
		return s, flags, flags.Parse(args)
	}
	_, all, err := parse()
	if err != nil {
		f.Fatal(err)
	}
	var names []string // sorted
	all.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	values := []string{
		"T", "show", "0x50", "-1", "1h0.5m", "10.0.0.0/8,\"fd00::/8\"", "app=a,b=c=d", "app", "a=b,\"c", "https://é", filepath.Join(f.TempDir(), "policy.yaml"), "",
	}
	for n := range names {
		for _, value := range values {
			f.Add(byte(n), value)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, value string) {
		option := names[int(which)%len(names)]
		name := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(option))
		if strings.ContainsRune(value, 0) {
			return // no environment has it
		}
		flag := []string{"--" + option + "=" + value}
		if value == "" {
			flag = nil
		}
		want, _, refused := parse(flag...)
		t.Setenv(name, value)
		got, flags, err := parse()
		if err == nil {
			err = function.FromEnvironment(flags)
		}
		if (err == nil) != (refused == nil) || err != nil && !strings.Contains(err.Error(), name) {
			t.Fatalf("%s=%q: %v, as a flag %v", name, value, err, refused)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s=%q is %+v, as a flag %+v", name, value, got, want)
		}
	})
}
