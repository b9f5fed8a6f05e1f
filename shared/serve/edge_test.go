package serve_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

func TestEachCallIsLoggedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Verbs: serve.Verbs{
		RetrieveInstance: func(_ context.Context, _ ctf.Caller, req *instancev1.RetrieveInstanceRequest) (*instancev1.Instance, error) {
			switch req.SourceId {
			case "good":
				return &instancev1.Instance{}, nil
			case "panic":
				panic("oh no")
			default:
				return nil, ctf.StoreUnavailable(errors.New("the cause"))
			}
		},
	}})
	for _, source := range []string{"good", "bad", "panic"} {
		s.do(t, http.MethodGet, "/api/v1/instance/7/"+source, "")
	}
	lines := s.log.lines(t)
	if len(lines) != 3 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	if stack, _ := lines[2]["stack"].(string); !strings.Contains(stack, "edge_test.go") {
		t.Errorf("the stack of the panic is missing: %q", stack)
	}
	for _, line := range lines {
		delete(line, "time")
		delete(line, "duration_ms")
		delete(line, "stack")
	}
	want := []map[string]any{
		{"level": "INFO", "msg": "call", "verb": "RetrieveInstance", "challenge": "7", "source": "good", "code": "ok"},
		{
			"level": "WARN", "msg": "call", "verb": "RetrieveInstance", "challenge": "7", "source": "bad", "code": "unavailable", "reason": "UNAVAILABLE",
			"error": "The state store is not available: nothing was lost, try again in a moment: the cause",
		},
		{
			"level": "ERROR", "msg": "call", "verb": "RetrieveInstance", "challenge": "7", "source": "panic", "code": "internal", "reason": "INTERNAL_ERROR",
			"error": "panic: oh no",
		},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCallsAreLoggedWithTheirTrace(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, want := range map[string]any{
		"00-" + id + "-00f067aa0ba902b7-01":                    id,
		"cc-" + id + "-00f067aa0ba902b7-01-of-a-later-version": id,
		"00-" + id: nil,
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01": nil,
		"": nil,
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			s := start(t, serve.Options{Verbs: echo()})
			s.do(t, http.MethodGet, "/api/v1/challenge/1", "", "Traceparent", header)
			s.do(t, http.MethodPost, "/api.v1.challenge.ChallengeStore/RetrieveChallenge", "{}",
				"Traceparent", header, "Content-Type", "application/json")
			for _, line := range s.log.lines(t) {
				if line["trace"] != want {
					t.Errorf("the trace is %v", line["trace"])
				}
			}
		})
	}
}

func TestDrainWaitsForCalls(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	var inFlight atomic.Int64
	s := startLoosely(t, serve.Options{Verbs: serve.Verbs{CreateInstance: b.create}, InFlight: &inFlight})
	answers := make(chan error, 2)
	client := instancev1.NewInstanceManagerClient(s.dial(t))
	go func() {
		_, err := client.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{})
		answers <- err
	}()
	go func() {
		code, body, _ := s.do(t, http.MethodPost, "/api/v1/instance", "{}")
		if code != http.StatusOK {
			answers <- errors.New(body)
		}
		answers <- nil
	}()
	receive(t, b.entered)
	receive(t, b.entered)
	if n := inFlight.Load(); n != 2 {
		t.Errorf("of 2 calls %d are in flight", n)
	}
	s.stop()
	waitUntil(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-s.ended:
		t.Fatalf("Run ended before its calls: %v", err)
	default:
	}
	close(b.release)
	for range 2 {
		if err := receive(t, answers); err != nil {
			t.Errorf("a call in flight: %v", err)
		}
	}
	if err := receive(t, s.ended); err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := inFlight.Load(); n != 0 {
		t.Errorf("at the end %d are in flight", n)
	}
}

func TestDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	s := startLoosely(t, serve.Options{Verbs: serve.Verbs{CreateInstance: b.create}, DrainFor: time.Millisecond})
	client := instancev1.NewInstanceManagerClient(s.dial(t))
	go func() { _, _ = client.CreateInstance(t.Context(), &instancev1.CreateInstanceRequest{}) }()
	receive(t, b.entered)
	s.stop()
	if err := receive(t, s.ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run: %v", err)
	}
	if err := receive(t, b.left); !errors.Is(err, context.Canceled) {
		t.Errorf("the verb ended with %v", err)
	}
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); time.Now().Before(end); <-tick.C {
		if condition() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method   string
		check    func(context.Context) error
		code     int
		status   string
		failures map[string]string
	}{
		"no check": {http.MethodGet, nil, 200, "OK", nil},
		"healthy":  {http.MethodGet, func(context.Context) error { return nil }, 200, "OK", nil},
		"options":  {http.MethodOptions, nil, 200, "OK", nil},
		"store away": {
			http.MethodGet, func(context.Context) error { return ctf.StoreUnavailable(errors.New("secret")) }, 503, "Unavailable",
			map[string]string{"store": "The state store is not available: nothing was lost, try again in a moment"},
		},
		"store silent": {
			http.MethodGet, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 503, "Unavailable",
			map[string]string{"store": "it does not answer within 1s"},
		},
		"panic": {
			http.MethodGet, func(context.Context) error { panic("secret") }, 503, "Unavailable",
			map[string]string{"store": "An internal error occurred."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, serve.Options{Health: c.check, Version: "v1"})
			code, body, _ := s.do(t, c.method, "/healthcheck", "")
			var got struct {
				Status    string
				Failures  map[string]string
				Timestamp time.Time
				System    struct {
					Version    string
					Goroutines int `json:"goroutines_count"`
				}
				Component struct{ Name, Version string }
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if code != c.code || got.Status != c.status || got.System.Goroutines == 0 || got.Component.Version != "v1" {
				t.Errorf("%d %s", code, body)
			}
			if diff := cmp.Diff(c.failures, got.Failures); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if code, body, _ := s.do(t, c.method, "/health/readiness", ""); code != c.code {
				t.Errorf("ready: %d %s", code, body)
			}
			if code, body, _ := s.do(t, c.method, "/health/liveness", ""); code != http.StatusOK {
				t.Errorf("alive: %d %s", code, body)
			}
		})
	}
	s := start(t, serve.Options{})
	if code, body, _ := s.do(t, http.MethodHead, "/healthcheck", ""); code != http.StatusOK || body != "" {
		t.Errorf("HEAD: %d %q", code, body)
	}
	if code, _, _ := s.do(t, http.MethodPost, "/healthcheck", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}

func TestSwagger(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Swagger: true})
	for path, want := range map[string]string{
		"/swagger/":                       "swagger-ui-bundle.js",
		"/swagger/swagger-initializer.js": `url: "swagger.json"`,
		"/swagger/swagger.json":           `"operationId":"InstanceManager_CreateInstance"`,
		"/swagger/swagger-ui.css":         ".swagger-ui",
	} {
		if code, body, _ := s.do(t, http.MethodGet, path, ""); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	if code, _, _ := s.do(t, http.MethodGet, "/swagger/nothing", ""); code != http.StatusNotFound {
		t.Errorf("an unknown file: %d", code)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	got := make(chan event.Event, 10)
	s := start(t, serve.Options{Events: map[string]serve.EventHandler{
		"/expire": func(_ context.Context, e event.Event) error {
			got <- e
			switch e.Subject() {
			case "invalid":
				return ctf.InvalidField("subject", "must name a challenge")
			case "away":
				return ctf.StoreUnavailable(errors.New("secret"))
			case "broken":
				return errors.New("secret")
			case "panic":
				panic("secret")
			default:
				return nil
			}
		},
	}})
	for subject, want := range map[string]int{"": 204, "invalid": 400, "away": 503, "broken": 500, "panic": 500} {
		for _, mode := range []string{"binary", "structured"} {
			t.Run(mode+" "+subject, func(t *testing.T) {
				code, body := s.send(t, mode, subject)
				if code != want || strings.Contains(body, "secret") {
					t.Errorf("%d %s, want %d", code, body, want)
				}
				if e := receive(t, got); e.Type() != "dev.mayfly.tick" || e.ID() != "1" || string(e.Data()) != `{"a":1}` {
					t.Errorf("got %v", e)
				}
			})
		}
	}
}

func (s *server) send(t *testing.T, mode, subject string) (int, string) {
	t.Helper()
	e := event.New()
	e.SetID("1")
	e.SetType("dev.mayfly.tick")
	e.SetSource("/test")
	if subject != "" {
		e.SetSubject(subject)
	}
	if err := e.SetData(event.ApplicationJSON, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if mode == "structured" {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		code, body, _ := s.do(t, http.MethodPost, "/expire", string(raw), "Content-Type", "application/cloudevents+json")
		return code, body
	}
	req, err := cehttp.NewHTTPRequestFromEvent(t.Context(), s.url+"/expire", e)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, ""
}

func TestEventsThatAreNone(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Events: map[string]serve.EventHandler{
		"/expire": func(context.Context, event.Event) error { panic("it must not be called") },
	}})
	structured := []string{"Content-Type", "application/cloudevents+json"}
	for name, c := range map[string]struct {
		method, body string
		header       []string
		code         int
	}{
		"GET":                {http.MethodGet, "", nil, 405},
		"no event":           {http.MethodPost, "", nil, 400},
		"not JSON":           {http.MethodPost, "{", structured, 400},
		"no id":              {http.MethodPost, `{"specversion":"1.0","type":"t","source":"/s"}`, structured, 400},
		"an unknown dialect": {http.MethodPost, `{"specversion":"9.0","type":"t","source":"/s","id":"1"}`, structured, 400},
		"a megabyte": {
			http.MethodPost, `{"specversion":"1.0","type":"t","source":"/s","id":"1","data":"` + strings.Repeat("x", 1<<20) + `"}`, structured, 400,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, body, _ := s.do(t, c.method, "/expire", c.body, c.header...); code != c.code {
				t.Errorf("%d %s, want %d", code, body, c.code)
			}
		})
	}
}
