package system

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/mayfly-ctf/mayfly/shared/lifecycle"
)

func TestBounds(t *testing.T) {
	t.Parallel()
	processors := runtime.GOMAXPROCS(0)
	for args, want := range map[string]any{
		"":                                 [2]int{2 * processors, processors},
		"--kubernetes":                     [2]int{22, 10},
		"--workers=8":                      [2]int{6, 2},
		"--workers=1":                      [2]int{1, 1},
		"--workers=4 --deployments=4":      [2]int{4, 1},
		"--workers=4 --deployments=5":      "deployments: it is 5 and must be 1 to 4",
		"--workers=4 --deployments=-1":     "deployments: it is -1",
		"--workers=-1":                     "workers: it is -1",
		"--workers=-8 --deployments=-9":    "workers: it is -8",
		"--create-queue=-1":                "create-queue: it is -1",
		"--create-wait=-1s":                "create-wait: it is -1s",
		"--create-wait=5m":                 "create-wait: it is 5m0s and must be 0 to 4m30s",
		"--create-queue=0 --create-wait=0": [2]int{2 * processors, processors},
	} {
		var s Settings
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.Register(flags)
		check(t, flags.Parse(strings.Fields(args)))
		got, err := s.bounds()
		if message, refused := want.(string); refused {
			if err == nil || !strings.HasPrefix(err.Error(), message) {
				t.Errorf("%s: %v, want %s", args, err, message)
			}
			continue
		}
		check(t, err)
		if d := cmp.Diff(want, [2]int{got.Deployments, got.Destructions}); d != "" {
			t.Errorf("%s: %s", args, d)
		}
		if defaults := (lifecycle.Bounds{Deployments: got.Deployments, Destructions: got.Destructions, Queue: 500, Wait: time.Minute}); !strings.Contains(args, "create") && got != defaults {
			t.Errorf("%s: %+v", args, got)
		}
	}
}
