package knative

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
)

// An answer is one of an API server, to whatever it is asked.
type answer struct {
	code int
	kind string
	body string
}

func (a *answer) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: request,
		Header: http.Header{"Content-Type": {a.kind}}, Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}

// FuzzPatch answers the patch of the schedule with anything. The tick is on
// only if a PingSource is answered that has its schedule.
func FuzzPatch(f *testing.F) {
	const source = `{"apiVersion":"sources.knative.dev/v1","kind":"PingSource","metadata":{"name":"tick"},"spec":{"schedule":"` + ScheduleOn + `"}}`
	f.Add(http.StatusOK, "application/json", source)
	f.Add(http.StatusOK, "application/json", strings.ReplaceAll(source, ScheduleOn, ScheduleOff))
	f.Add(http.StatusOK, "application/json", strings.ReplaceAll(source, "/v1", "/v1beta2"))
	f.Add(http.StatusOK, "application/json", `{"spec":{"schedule":"`+ScheduleOn+`"}}`)
	f.Add(http.StatusOK, "text/html", "<html>")
	f.Add(http.StatusOK, "", "")
	f.Add(http.StatusForbidden, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
	f.Add(http.StatusCreated, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict"}`)
	f.Add(http.StatusInternalServerError, "application/vnd.kubernetes.protobuf", "k8s\x00")
	given := &answer{}
	tick, err := NewTick(&rest.Config{Host: "http://api.example", Transport: given, QPS: -1}, "mayfly", "tick")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, code int, kind, body string) {
		*given = answer{code: 100 + (code%500+500)%500, kind: kind, body: body}
		err := tick.patch(t.Context(), []byte("{}"), ScheduleOn)
		var got sourcesv1.PingSource
		is := json.Unmarshal([]byte(body), &got) == nil && got.Spec.Schedule == ScheduleOn && given.code < http.StatusMultipleChoices
		if err == nil && !is {
			t.Errorf("%+v turned the tick on", *given)
		}
	})
}
