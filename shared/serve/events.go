package serve

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/mayfly-ctf/mayfly/shared/api"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// maxEvent is the longest event in bytes.
const maxEvent = 256 << 10

// An EventHandler works on one event. It may get the same one again, also
// while it still works on it. A kind Invalid error says that there is no use in
// sending the event again; after any other, the sender tries again later.
type EventHandler func(context.Context, event.Event) error

// newEventEndpoint takes events at a path, in binary and in structured mode.
func newEventEndpoint(path string, handle EventHandler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		ctx, start := r.Context(), time.Now()
		r.Body = http.MaxBytesReader(w, r.Body, maxEvent)
		e, err := readEvent(r)
		if err == nil {
			err = guard(func() error { return handle(ctx, e) })
		}
		logEvent(ctx, log, path, e, time.Since(start), err)
		if err != nil {
			message, _ := api.Describe(err)
			http.Error(w, message, eventStatus(ctx, err))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func readEvent(r *http.Request) (event.Event, error) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		return event.Event{}, ctf.InvalidField("event", "can't be read: "+err.Error())
	}
	if err := e.Validate(); err != nil {
		return event.Event{}, ctf.InvalidField("event", "is not valid: "+err.Error())
	}
	return *e, nil
}

func logEvent(ctx context.Context, log *slog.Logger, path string, e event.Event, took time.Duration, err error) {
	attrs := []slog.Attr{slog.String("path", path), milliseconds(took)}
	if e.Context != nil {
		attrs = append(attrs, slog.String("type", e.Type()), slog.String("id", e.ID()), slog.String("subject", e.Subject()))
	}
	if err == nil {
		log.LogAttrs(ctx, slog.LevelInfo, "event", attrs...)
		return
	}
	code := codeOf(ctx, err)
	log.LogAttrs(ctx, levelOf(code), "event", append(attrs, failureAttrs(code, err)...)...)
}
