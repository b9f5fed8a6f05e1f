package apitest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// object is a JSON object.
type object map[string]any

// answer is what came back for a request.
type answer struct {
	code int
	body object
	raw  string
}

// call sends a REST request with a JSON body; nil is none.
func (s *suite) call(t *testing.T, method, path string, body any) answer {
	t.Helper()
	a, err := s.try(method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is call for goroutines of the test.
func (s *suite) try(method, path string, body any, header ...string) (answer, error) {
	return s.send(method, s.target.BaseURL+path, body, header...)
}

// send sends a request to any address.
func (s *suite) send(method, address string, body any, header ...string) (answer, error) {
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, address, sent)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: res.StatusCode, raw: string(raw)}
	_ = json.Unmarshal(raw, &a.body) // Streams and the like are read by who asked.
	return a, nil
}

// want fails the test unless the code is this one.
func (a answer) want(t *testing.T, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("HTTP %d, want %d: %s", a.code, code, a.raw)
	}
	return a
}

// wantError fails the test unless the answer is an error of the catalogue.
func (a answer) wantError(t *testing.T, code int, reason string) answer {
	t.Helper()
	a.want(t, code)
	for _, key := range []string{"code", "message", "details"} {
		if _, ok := a.body[key]; !ok {
			t.Errorf("the error has no %s: %s", key, a.raw)
		}
	}
	info := a.detail("ErrorInfo")
	if info["reason"] != reason {
		t.Errorf("reason %v, want %s: %s", info["reason"], reason, a.raw)
	}
	return a
}

// detail returns the error detail of a type of google.rpc.
func (a answer) detail(name string) object {
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		if d, ok := d.(map[string]any); ok && d["@type"] == "type.googleapis.com/google.rpc."+name {
			return d
		}
	}
	return nil
}

// results returns the items of a stream.
func (a answer) results(t *testing.T) []object {
	t.Helper()
	var items []object
	for line := range strings.Lines(a.raw) {
		var item struct {
			Result object          `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal([]byte(line), &item); err != nil || item.Error != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		items = append(items, item.Result)
	}
	return items
}

// escape makes an id fit for a path; dots too, since clients take those out.
func escape(id string) string { return strings.ReplaceAll(url.PathEscape(id), ".", "%2E") }

func challengePath(id string) string { return "/api/v1/challenge/" + escape(id) }

func instancePath(challenge, source string) string {
	return "/api/v1/instance/" + escape(challenge) + "/" + escape(source)
}

// challenge creates a challenge of the plain scenario with further fields, and
// deletes it when the test ends. It returns the id.
func (s *suite) challenge(t *testing.T, fields object) string {
	t.Helper()
	body := object{"id": s.id(), "scenario": s.scenarios.plain}
	maps.Copy(body, fields)
	id, _ := body["id"].(string)
	t.Cleanup(func() { s.delete(t, challengePath(id)) })
	s.call(t, http.MethodPost, "/api/v1/challenge", body).want(t, http.StatusOK)
	return id
}

// delete removes what may be gone already.
func (s *suite) delete(t *testing.T, path string) {
	t.Helper()
	if a := s.call(t, http.MethodDelete, path, nil); a.code != http.StatusOK && a.code != http.StatusNotFound {
		t.Errorf("DELETE %s: HTTP %d: %s", path, a.code, a.raw)
	}
}

// update patches a challenge; the mask names the fields given.
func (s *suite) update(t *testing.T, id, mask string, fields object) answer {
	t.Helper()
	body := object{"updateMask": mask}
	maps.Copy(body, fields)
	return s.call(t, http.MethodPatch, challengePath(id), body)
}

// create asks for an instance.
func (s *suite) create(t *testing.T, challenge, source string) answer {
	t.Helper()
	return s.call(t, http.MethodPost, "/api/v1/instance", object{"challengeId": challenge, "sourceId": source})
}

func (s *suite) retrieve(t *testing.T, challenge, source string) answer {
	t.Helper()
	return s.call(t, http.MethodGet, instancePath(challenge, source), nil)
}

// given is what the plain scenario was given, as it says.
type given struct {
	Project    string            `json:"project"`
	Identity   string            `json:"identity"`
	Additional map[string]string `json:"additional"`
}

// given reads the connection info of an instance.
func (a answer) given(t *testing.T) given {
	t.Helper()
	var g given
	text, _ := a.body["connectionInfo"].(string)
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		t.Fatalf("connection info %q: %v", text, err)
	}
	return g
}

// date reads a field that is a date.
func (a answer) date(t *testing.T, field string) time.Time {
	t.Helper()
	text, _ := a.body[field].(string)
	d, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatalf("%s: %v in %s", field, err, a.raw)
	}
	return d
}

// pooled tells whether an instance came out of the pool: then it was deployed
// before it was given out.
func (a answer) pooled(t *testing.T) bool {
	t.Helper()
	return a.date(t, "lastRenew").After(a.date(t, "since"))
}
