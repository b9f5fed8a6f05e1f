package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// Every flag of a function is a setting of the configuration, and no setting is
// one that no function reads: a mistake in writing is refused by this list.
func TestSettings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../config/base/settings.env")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			got = append(got, name)
		}
	}
	// The gateway has one flag more, and variables that are no flags are read by the
	// functions, and by what they are built with.
	want := []string{"GATEWAY_TARGET", "K_SINK", "HTTPS_PROXY", "NO_PROXY"}
	newCommand().Flags().VisitAll(func(f *pflag.Flag) {
		switch name := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(f.Name)); name {
		case "PORT", "REDIS_URL", "OCI_PASSWORD": // the port stays, and the others are secrets
		case "MAX_PROCESSES": // on a cluster there are no local processes
		default:
			want = append(want, name)
		}
	})
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
