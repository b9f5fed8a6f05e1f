package engine_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
)

// BenchmarkLife measures the whole life of an instance: Up and Down of a
// program with components only, and of one with five resources.
func BenchmarkLife(b *testing.B) {
	tests := map[string][]string{
		"no_resources":   nil,
		"five_resources": {"files", "a,b,c,d,e", "mode", "none"},
	}
	for name, additional := range tests {
		for _, callers := range []int{1, 10} {
			b.Run(name+callerNames[callers], func(b *testing.B) { benchmarkLife(b, callers, additional) })
		}
	}
}

var callerNames = map[int]string{1: "/1_caller", 10: "/10_callers"}

func benchmarkLife(b *testing.B, callers int, additional []string) {
	s := newSite(b, func(o *engine.Options) { o.Workers = 4 })
	var mu sync.Mutex
	var ups, downs []time.Duration
	life := func() {
		id, l := ctf.NewIdentity(), newLedger()
		begin := time.Now()
		result, err := s.Up(b.Context(), program(id, additional...), ctf.Checkpoint{}, l)
		middle := time.Now()
		if err == nil {
			err = s.Down(b.Context(), key(id), ctf.Checkpoint{Base: result.Base}, l)
		}
		end := time.Now()
		if err != nil {
			b.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		ups, downs = append(ups, middle.Sub(begin)), append(downs, end.Sub(middle))
	}
	life() // warm up
	ups, downs = nil, nil
	b.ResetTimer()
	var working sync.WaitGroup
	turns := make(chan struct{})
	for range callers {
		working.Go(func() {
			for range turns {
				life()
			}
		})
	}
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	working.Wait()
	b.StopTimer()
	b.ReportMetric(percentile(ups, 50), "up-p50-ms")
	b.ReportMetric(percentile(ups, 95), "up-p95-ms")
	b.ReportMetric(percentile(downs, 50), "down-p50-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lives/s")
}

func percentile(all []time.Duration, p int) float64 {
	slices.Sort(all)
	return float64(all[(len(all)-1)*p/100]) / float64(time.Millisecond)
}
