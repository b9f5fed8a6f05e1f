package install_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// number returns a constant of a Go file, whose value is an expression without
// names. This module imports no function.
func number(t *testing.T, file, name string) int64 {
	t.Helper()
	path := filepath.Join(root, file)
	source, err := os.ReadFile(path)
	check(t, err)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, source, 0)
	check(t, err)
	value := int64(-1)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
			expression := source[files.Position(spec.Values[0].Pos()).Offset:files.Position(spec.Values[0].End()).Offset]
			result, err := types.Eval(files, nil, token.NoPos, string(expression))
			check(t, err)
			value, _ = constant.Int64Val(constant.ToInt(result.Value))
		}
		return true
	})
	if value < 0 {
		t.Fatalf("%s has no constant %s", file, name)
	}
	return value
}

// What all calls that a pod takes at once may hold fits into its memory: else
// one heavy call ends all the others with it.
func TestMemory(t *testing.T) {
	t.Parallel()
	const (
		mib = 1 << 20
		// worker is what a worker of the engine takes: 60 MB and 20 MB more while it
		// runs, as measured, and some.
		worker = 96 * mib
		// little is what a call takes besides: stacks, headers, its part of a connection.
		little = 128 << 10
	)
	copied, kept, flight := number(t, "functions/gateway/transport.go", "bufferSize"),
		number(t, "functions/gateway/function.go", "maxKept"), number(t, "functions/gateway/transport.go", "maxInFlight")
	for _, overlay := range []string{"local", "production"} {
		o := options(overlay)
		settings := settingsOf(t, o)
		workers, err := strconv.ParseInt(settings["WORKERS"], 10, 64)
		check(t, err)
		program, err := strconv.ParseInt(settings["SCENARIO_MEMORY"], 10, 64) // MiB
		check(t, err)
		for name, function := range functions(t, o) {
			spec := function.Spec.Template.Spec
			container := spec.Containers[0]
			own := int64(0) // GOMEMLIMIT
			for _, v := range container.Env {
				if v.Name == "GOMEMLIMIT" { // MiB of Go are Mi of Kubernetes
					quantity := resource.MustParse(strings.TrimSuffix(v.Value, "B"))
					own = quantity.Value()
				}
			}
			calls, limit := *spec.ContainerConcurrency, container.Resources.Limits.Memory().Value()
			switch {
			case own == 0 || own >= limit:
				t.Errorf("%s, %s: Go collects garbage at %d MiB of %d", overlay, name, own/mib, limit/mib)
			case name == "gateway" && (calls*(kept+flight+copied) > own || own+calls*little > limit):
				t.Errorf("%s, %s: %d calls do not fit into %d MiB, of which Go has %d", overlay, name, calls, limit/mib, own/mib)
			case spec.ServiceAccountName == "engine" && own+workers*(worker+program*mib) > limit:
				t.Errorf("%s, %s: %d operations of %d MiB each do not fit into %d MiB", overlay, name, workers, worker/mib+program, limit/mib)
			case spec.ServiceAccountName == "engine" && calls > workers:
				t.Errorf("%s, %s: %d calls at once, of which %d are worked on", overlay, name, calls, workers)
			}
		}
	}
}
