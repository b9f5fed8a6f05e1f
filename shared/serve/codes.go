package serve

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/mayfly-ctf/mayfly/shared/api"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// codeOf is the table from errors to codes. The caller's own leaving comes
// first, since it makes other things fail.
func codeOf(ctx context.Context, err error) connect.Code {
	if cause := ctx.Err(); cause != nil && errors.Is(err, cause) {
		return codeOfContext(cause)
	}
	if e, ok := errors.AsType[*ctf.Error](err); ok {
		return codeOfKind(e.Kind)
	}
	if e, ok := errors.AsType[*connect.Error](err); ok {
		return e.Code() // An answer could not be sent.
	}
	return connect.CodeInternal
}

func codeOfContext(cause error) connect.Code {
	if errors.Is(cause, context.DeadlineExceeded) {
		return connect.CodeDeadlineExceeded
	}
	return connect.CodeCanceled
}

func codeOfKind(kind ctf.Kind) connect.Code {
	switch kind {
	case ctf.Invalid:
		return connect.CodeInvalidArgument
	case ctf.NotFound:
		return connect.CodeNotFound
	case ctf.Exists:
		return connect.CodeAlreadyExists
	case ctf.Precondition:
		return connect.CodeFailedPrecondition
	case ctf.Conflict:
		return connect.CodeAborted
	case ctf.Exhausted:
		return connect.CodeResourceExhausted
	case ctf.Unavailable:
		return connect.CodeUnavailable
	case ctf.Unauthenticated:
		return connect.CodeUnauthenticated
	default:
		return connect.CodeInternal
	}
}

// levelOf is error where a person must look.
func levelOf(code connect.Code) slog.Level {
	switch code {
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
		return slog.LevelError
	case connect.CodeUnavailable:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// publicError is what the caller gets to see of an error. One who has left, or
// whose time is up, gets the code alone.
func publicError(code connect.Code, err error) *connect.Error {
	if code == connect.CodeCanceled || code == connect.CodeDeadlineExceeded {
		return connect.NewError(code, errors.New(""))
	}
	message, details := api.Describe(err)
	out := connect.NewError(code, errors.New(message))
	for _, d := range details {
		// It can't be marshalled only if a text in it is no UTF-8; the code and
		// the message are worth sending all the same.
		if detail, err := connect.NewErrorDetail(d); err == nil {
			out.AddDetail(detail)
		}
	}
	if e, ok := errors.AsType[*ctf.Error](err); ok && e.RetryAfter > 0 {
		out.Meta().Set("Retry-After", inSeconds(e.RetryAfter))
	}
	return out
}

// inSeconds is a span as the header Retry-After has it, none too short.
func inSeconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// eventStatus tells the sender of an event whether sending it again may help:
// not if the event itself is at fault.
func eventStatus(ctx context.Context, err error) int {
	switch codeOf(ctx, err) {
	case connect.CodeInvalidArgument:
		return http.StatusBadRequest
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
