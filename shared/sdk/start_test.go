package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	// maxSize is how large a scenario may be, and maxStart how long it may take
	// until it asks the engine for something.
	maxSize  = 30_000_000
	maxStart = 15 * time.Millisecond
)

// build builds the Kubernetes example as the README says.
func build(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "scenario")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./examples/web")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

func TestScenarioIsSmall(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(build(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxSize {
		t.Errorf("a scenario has %d bytes, want at most %d", info.Size(), maxSize)
	}
}

// BenchmarkStart measures a scenario of one web server: until its first request
// to the engine, and until it has registered everything and ended. It fails if
// half of the starts take too long.
func BenchmarkStart(b *testing.B) {
	binary := build(b)
	var starts, ends []time.Duration
	for b.Loop() {
		m, address := serve(b)
		cmd := exec.CommandContext(b.Context(), binary)
		cmd.Dir = b.TempDir()
		cmd.Env = []string{
			"PULUMI_PROJECT=p", "PULUMI_STACK=s", "PULUMI_MONITOR=" + address, "PULUMI_ENGINE=" + address,
			`PULUMI_CONFIG={"p:identity":"a0b1c2d3","p:additional":"{\"image\":\"a\",\"secret\":\"0123456789abcdef\"}"}`,
		}
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil || m.resources["kubernetes:apps/v1:Deployment"] == nil {
			b.Fatalf("%v: %s%s", err, out, m.logged.String())
		}
		starts, ends = append(starts, m.called.Sub(begin)), append(ends, time.Since(begin))
	}
	start, end := median(starts), median(ends)
	b.ReportMetric(float64(start.Microseconds())/1000, "ms/start")
	b.ReportMetric(float64(slices.Min(starts).Microseconds())/1000, "ms/start-min")
	b.ReportMetric(float64(end.Microseconds())/1000, "ms/run")
	if len(starts) > 1 && start > maxStart {
		b.Errorf("half of the starts take more than %s, want at most %s", start, maxStart)
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
