package serve

import "net/http"

// The parts of a traceparent of W3C's Trace Context: version, trace, parent
// and flags, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".
const (
	traceparentLength = 55
	traceStart        = 3
	traceEnd          = 35
)

// traceOf returns the id of the trace that a call belongs to, "" if it belongs
// to none or its header can't be read.
func traceOf(h http.Header) string {
	parent := h.Get("Traceparent")
	if len(parent) < traceparentLength || parent[traceStart-1] != '-' || parent[traceEnd] != '-' {
		return ""
	}
	trace := parent[traceStart:traceEnd]
	for _, c := range trace {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return trace
}
