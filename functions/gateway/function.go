package gateway

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

const (
	// maxKept is the longest request in bytes that is kept until it is answered,
	// so that it can be sent again to a function that took over from one which
	// did not take it. Nearly all are shorter; others are passed on as they come.
	maxKept = 64 << 10
	// retryAfter is when a caller may ask again, in seconds.
	retryAfter = "1"
)

// errNoFunction is why a call fails whose answer is not from its function, but
// from what is in front of it.
var errNoFunction = errors.New("the answer is not the function's")

// errCutOff is errNoFunction where the function may have had the call.
var errCutOff = errors.New("what is in front of the function lost it")

// A function is one verb, somewhere else.
type function struct {
	verb   string
	target *url.URL
	proxy  *httputil.ReverseProxy
	log    *slog.Logger
}

// ServeHTTP hands one call to the function.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kept, err := keep(r)
	if err != nil {
		serve.WriteError(w, r, ctf.InvalidField("body", "can't be read"))
		return
	}
	f.proxy.ServeHTTP(w, kept)
}

// keep returns the request with a body that can be sent more than once, if it
// is not too long for that.
func keep(r *http.Request) (*http.Request, error) {
	if r.ContentLength == 0 || r.ContentLength > maxKept {
		return r, nil
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxKept+1))
	if err != nil {
		return nil, err
	}
	kept := *r
	if len(head) > maxKept {
		kept.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), r.Body), r.Body}
		return &kept, nil
	}
	kept.ContentLength = int64(len(head))
	kept.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(head)), nil }
	kept.Body, err = kept.GetBody()
	return &kept, err
}

// rewrite addresses the request to the function. All else stays as it came:
// what it asks for, who asks, deadlines, and the trace.
func (f *function) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = f.target.Scheme, f.target.Host, f.target.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // What can't be parsed is for the function to say.
	// HTTP/2 has no upgrades; a caller that offers one takes an answer without.
	r.Out.Header.Del("Connection")
	r.Out.Header.Del("Upgrade")
	if r.Out.Header.Get("Traceparent") == "" {
		r.Out.Header.Set("Traceparent", newTrace())
	}
}

// newTrace returns a traceparent of W3C's Trace Context that nobody records,
// by which the lines of a call in the logs of all functions are found.
func newTrace() string {
	var ids [24]byte
	_, _ = rand.Read(ids[:]) // It never fails.
	return fmt.Sprintf("00-%x-%x-00", ids[:16], ids[16:])
}

// inspect refuses answers that are not from the function.
func (f *function) inspect(res *http.Response) error {
	// A function says everything in the caller's protocol, whose types all begin
	// like this.
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/") {
		return nil
	}
	switch code := res.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: HTTP %s", errNoFunction, res.Status)
	case code >= http.StatusInternalServerError:
		return fmt.Errorf("%w: HTTP %s", errCutOff, res.Status)
	}
	return nil
}

// fail answers a call to which the function gave no answer.
func (f *function) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	if left := ctx.Err(); left != nil {
		serve.WriteError(w, r, left)
		return
	}
	detail := "broke off; look whether it was done before you try again"
	if neverSent(err) || errors.Is(err, errNoFunction) {
		detail = "can't be reached; try again in a moment"
	}
	f.log.WarnContext(ctx, "a call did not reach its function",
		"verb", f.verb, "address", f.target.Host, "trace", r.Header.Get("Traceparent"), "error", err)
	w.Header().Set("Retry-After", retryAfter)
	serve.WriteError(w, r, ctf.FunctionUnavailable(f.verb, detail, err))
}
