package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/api"
)

// healthTimeout is how long the check of the function may take.
const healthTimeout = time.Second

// healthReport is the answer of the health check. Clients look at its status
// code; the rest is for people.
type healthReport struct {
	Status    string            `json:"status"`
	Timestamp time.Time         `json:"timestamp"`
	Failures  map[string]string `json:"failures,omitempty"`
	System    systemReport      `json:"system"`
	Component componentReport   `json:"component"`
}

type systemReport struct {
	Version          string `json:"version"`
	GoroutinesCount  int    `json:"goroutines_count"`
	TotalAllocBytes  uint64 `json:"total_alloc_bytes"`
	HeapObjectsCount uint64 `json:"heap_objects_count"`
	AllocBytes       uint64 `json:"alloc_bytes"`
}

type componentReport struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// newHealth reports what a check says; nil is always healthy.
func newHealth(version string, check func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
		default:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		report := newHealthReport(version, checkHealth(r.Context(), check))
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if report.Failures != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(report) // Who asked has left; there is nobody to tell.
	})
}

func checkHealth(ctx context.Context, check func(context.Context) error) error {
	if check == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	return guard(func() error { return check(ctx) })
}

func newHealthReport(version string, failure error) healthReport {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	report := healthReport{
		Status:    "OK",
		Timestamp: time.Now(),
		System: systemReport{
			Version:          runtime.Version(),
			GoroutinesCount:  runtime.NumGoroutine(),
			TotalAllocBytes:  m.TotalAlloc,
			HeapObjectsCount: m.HeapObjects,
			AllocBytes:       m.Alloc,
		},
		Component: componentReport{Name: "mayfly", Version: version},
	}
	if failure != nil {
		report.Status = "Unavailable"
		report.Failures = map[string]string{"store": failureText(failure)}
	}
	return report
}

func failureText(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "it does not answer within " + healthTimeout.String()
	}
	message, _ := api.Describe(err)
	return message
}
