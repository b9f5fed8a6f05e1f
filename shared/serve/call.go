package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"

	"github.com/mayfly-ctf/mayfly/shared/api"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// An edge is what every call passes on its way in and out.
type edge struct {
	verbs Verbs
	limit time.Duration
	log   *slog.Logger
}

func unary[Req, Res any](ctx context.Context, e edge, verb Unary[Req, Res], req *Req) (*Res, error) {
	if verb == nil {
		return nil, notServed()
	}
	var res *Res
	err := e.call(ctx, req, func(ctx context.Context, caller ctf.Caller) (err error) {
		res, err = verb(ctx, caller, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func stream[Req, Res any](
	ctx context.Context, e edge, verb Stream[Req, Res], req *Req, out *connect.ServerStream[Res],
) error {
	if verb == nil {
		return notServed()
	}
	return e.call(ctx, req, func(ctx context.Context, caller ctf.Caller) error {
		return verb(ctx, caller, req, out.Send)
	})
}

func notServed() error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("This verb is not served here.")) //nolint:staticcheck // It is a sentence for the caller.
}

// call runs a verb and logs it. The error is what the caller gets to see.
func (e edge) call(ctx context.Context, req any, do func(context.Context, ctf.Caller) error) error {
	start := time.Now()
	if e.limit > 0 {
		limited, cancel := context.WithTimeout(ctx, e.limit)
		defer cancel()
		ctx = limited
	}
	info, _ := connect.CallInfoForHandlerContext(ctx)
	err := guard(func() error {
		ctx, err := api.WithIdempotencyKey(ctx, info.RequestHeader().Get("Idempotency-Key"))
		if err != nil {
			return err
		}
		return do(ctx, callerOf(info.RequestHeader()))
	})
	attrs := append([]slog.Attr{
		slog.String("verb", path.Base(info.Spec().Procedure)),
		milliseconds(time.Since(start)),
	}, requestAttrs(req)...)
	if trace := traceOf(info.RequestHeader()); trace != "" {
		attrs = append(attrs, slog.String("trace", trace))
	}
	if err == nil {
		e.log.LogAttrs(ctx, slog.LevelInfo, "call", append(attrs, slog.String("code", "ok"))...)
		return nil
	}
	code := codeOf(ctx, err)
	e.log.LogAttrs(ctx, levelOf(code), "call", append(attrs, failureAttrs(code, err)...)...)
	return publicError(code, err)
}

// callerOf tells who asks. There is one operator and one tenant, as the API
// has no authentication.
func callerOf(http.Header) ctf.Caller {
	return ctf.Caller{Tenant: ctf.DefaultTenant, Role: ctf.RoleOperator}
}

// A panicked is the error of a function that panicked.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// guard calls f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicked{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}

func requestAttrs(req any) []slog.Attr {
	var attrs []slog.Attr
	add := func(name, id string) {
		if len(id) > ctf.MaxIDLength {
			id = id[:ctf.MaxIDLength]
		}
		attrs = append(attrs, slog.String(name, id))
	}
	if r, ok := req.(interface{ GetId() string }); ok {
		add("challenge", r.GetId())
	}
	if r, ok := req.(interface{ GetChallengeId() string }); ok {
		add("challenge", r.GetChallengeId())
	}
	if r, ok := req.(interface{ GetSourceId() string }); ok {
		add("source", r.GetSourceId())
	}
	return attrs
}

// milliseconds is how long something took, with the unit in its name.
func milliseconds(took time.Duration) slog.Attr {
	return slog.Float64("duration_ms", float64(took.Microseconds())/1000)
}

func failureAttrs(code connect.Code, err error) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("code", code.String()),
		slog.String("reason", string(ctf.ReasonOf(err))),
		slog.String("error", err.Error()),
	}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	return attrs
}
