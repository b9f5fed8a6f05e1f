package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

// loopbackBuffer is the size in bytes of the buffer in each direction between
// REST and the calls.
const loopbackBuffer = 256 << 10

// A rest translates REST to gRPC and sends it to the calls over a connection
// in memory. So JSON, the framing of streams and the bodies of errors are those
// of grpc-gateway, which clients know.
type rest struct {
	mux    *runtime.ServeMux
	conn   *grpc.ClientConn
	server *http.Server
	served sync.WaitGroup
}

// newREST starts serving the calls in memory. The caller closes it.
func newREST(ctx context.Context, calls http.Handler) (*rest, error) {
	l := bufconn.Listen(loopbackBuffer)
	conn, err := grpc.NewClient("passthrough:///calls",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		// Answers are our own, of any size.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, fmt.Errorf("connect REST to the calls: %w", err)
	}
	r := &rest{
		mux:    newMux(),
		conn:   conn,
		server: newServer(calls),
	}
	r.served.Go(func() { _ = r.server.Serve(l) }) // It ends by close alone.
	if err := r.register(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// newMux returns a mux that takes any id for a part of a path.
func newMux() *runtime.ServeMux {
	return runtime.NewServeMux(
		// An escaped slash is part of an id, not a separator.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSON()),
		runtime.WithErrorHandler(answerError),
		runtime.WithIncomingHeaderMatcher(passHeader))
}

func (r *rest) register(ctx context.Context) error {
	err := challengev1.RegisterChallengeStoreHandlerClient(ctx, r.mux, challengev1.NewChallengeStoreClient(r.conn))
	if err != nil {
		return fmt.Errorf("register REST of challenges: %w", err)
	}
	err = instancev1.RegisterInstanceManagerHandlerClient(ctx, r.mux, instancev1.NewInstanceManagerClient(r.conn))
	if err != nil {
		return fmt.Errorf("register REST of instances: %w", err)
	}
	return nil
}

func (r *rest) close() {
	_ = r.conn.Close()
	_ = r.server.Close()
	r.served.Wait()
}

// passHeader tells under which name a header reaches the calls.
func passHeader(name string) (string, bool) {
	switch lower := strings.ToLower(name); lower {
	case "idempotency-key", "traceparent", "tracestate":
		return lower, true
	}
	return runtime.DefaultHeaderMatcher(name)
}

// ServeHTTP answers one REST request.
func (r *rest) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	dispatch(r.mux, hinting{w}, req, &limitedBody{ReadCloser: req.Body, left: maxMessage})
}

// answerError answers as grpc-gateway does. When to ask again is a header, too.
func answerError(
	ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			w.Header().Set("Retry-After", inSeconds(info.GetRetryDelay().AsDuration()))
		}
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, err)
}

// retryAfter is when a caller may ask again, in seconds.
const retryAfter = "1"

// A hinting tells callers of what is not available for now to ask again.
type hinting struct{ http.ResponseWriter }

// Unwrap returns the writer below for [http.ResponseController].
func (h hinting) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// WriteHeader begins the answer.
func (h hinting) WriteHeader(code int) {
	if code == http.StatusServiceUnavailable {
		h.Header().Set("Retry-After", retryAfter)
	}
	h.ResponseWriter.WriteHeader(code)
}

// dispatch has the mux answer a request whose address may hold any id. The
// handlers get this body.
func dispatch(mux *runtime.ServeMux, w http.ResponseWriter, req *http.Request, body io.ReadCloser) {
	if query, err := url.QueryUnescape(req.URL.RawQuery); !utf8.ValidString(req.URL.Path) || err == nil && !utf8.ValidString(query) {
		// It could not be put in a message.
		_, marshaler := runtime.MarshalerForRequest(mux, req)
		runtime.HTTPError(req.Context(), mux, marshaler, w, req, status.Error(codes.InvalidArgument, "the address is not valid UTF-8"))
		return
	}
	escaped := *req.URL
	// The mux unescapes Path once more when RawPath is empty, which it is for
	// most paths: 100%25 would become 100%, and that an error.
	escaped.RawPath = req.URL.EscapedPath()
	req = req.WithContext(req.Context()) // a copy, to be changed
	req.URL = &escaped
	req.Body = body
	mux.ServeHTTP(w, req)
}

var errBodyTooLong = errors.New("the request body is longer than 4 MiB")

// maxDiscarded is how much of a body that is too long is read all the same,
// in bytes, because many clients look at an answer only once they have sent
// everything.
const maxDiscarded = 64 << 20

// A limitedBody fails once more than left bytes were read from it.
type limitedBody struct {
	io.ReadCloser
	left int
}

// Read reads up to the limit.
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errBodyTooLong
	}
	if len(p) > b.left+1 {
		p = p[:b.left+1] // One more tells a body that is too long from one that is just not.
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		_, _ = io.CopyN(io.Discard, b.ReadCloser, maxDiscarded)
		return 0, errBodyTooLong
	}
	return n, err
}
