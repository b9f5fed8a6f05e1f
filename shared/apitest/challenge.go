package apitest

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

func challengeRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A10_create_challenge":            createChallenge,
		"A11_duplicate_challenge":         duplicateChallenge,
		"A12_pooler_bounds":               poolerBounds,
		"A13_scenario_reference":          scenarioReference,
		"A14_scenario_content":            scenarioContent,
		"A14_scenario_source":             scenarioSource,
		"A15_tag_and_digest":              tagAndDigest,
		"A16_prebuilt_and_A17_plain_http": prebuiltOverHTTP,
		"A18_retrieve_challenge":          retrieveChallenge,
		"A19_query_challenges":            queryChallenges,
		"A26_delete_challenge":            deleteChallenge,
		"A26_delete_challenge_at_once":    deleteChallengeTwice,
	}
}

func createChallenge(t *testing.T, s *suite) {
	const until = "2222-12-22T22:22:22Z"
	id := s.id()
	t.Cleanup(func() { s.delete(t, challengePath(id)) })
	made := s.call(t, http.MethodPost, "/api/v1/challenge", object{
		"id": id, "scenario": s.scenarios.plain, "timeout": "600s", "until": until,
		"additional": object{"k": "v"}, "max": 3, "updateStrategy": "recreate",
	}).want(t, http.StatusOK)
	got := s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK)
	for _, a := range []answer{made, got} {
		additional, _ := a.body["additional"].(map[string]any)
		instances, ok := a.body["instances"].([]any)
		if a.body["id"] != id || a.body["scenario"] != s.scenarios.plain || a.body["timeout"] != "600s" ||
			a.body["until"] != until || a.body["min"] != "0" || a.body["max"] != "3" || additional["k"] != "v" ||
			!ok || len(instances) != 0 {
			t.Errorf("got %s", a.raw)
		}
	}
}

func duplicateChallenge(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	s.call(t, http.MethodPost, "/api/v1/challenge", object{"id": id, "scenario": s.scenarios.plain}).
		wantError(t, http.StatusConflict, "CHALLENGE_ALREADY_EXISTS")
}

func poolerBounds(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	for name, c := range map[string]struct {
		minimum, maximum int
		reasons          string
	}{
		"negative": {-1, -3, "MUST_BE_POSITIVE,MUST_BE_POSITIVE"},
		"inverted": {3, 2, "INVERTED_BOUNDARIES"},
	} {
		t.Run(name, func(t *testing.T) {
			bounds := object{"id": id, "scenario": "::", "min": c.minimum, "max": c.maximum}
			for _, got := range []answer{
				s.call(t, http.MethodPost, "/api/v1/challenge", bounds), // before existence and scenario
				s.update(t, id, "min,max", bounds),
			} {
				got.wantError(t, http.StatusBadRequest, "CHALLENGE_POOLER_OUT_OF_BOUNDS")
				if reasons := violations(got, "reason"); reasons != c.reasons {
					t.Errorf("violations are %q, want %q", reasons, c.reasons)
				}
			}
		})
	}
}

// violations joins one key of the field violations.
func violations(a answer, key string) string {
	list, _ := a.detail("BadRequest")["fieldViolations"].([]any)
	var values []string
	for _, v := range list {
		violation, _ := v.(map[string]any)
		value, _ := violation[key].(string)
		values = append(values, value)
	}
	return strings.Join(values, ",")
}

func scenarioReference(t *testing.T, s *suite) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String() // Nobody listens there from here on.
	_ = l.Close()
	existing := s.challenge(t, nil)
	for name, c := range map[string]struct{ reference, reason string }{
		"malformed":      {"::", "OCI_REFERENCE_MALFORMED"},
		"empty":          {"", "OCI_REFERENCE_MALFORMED"},
		"unknown tag":    {s.target.Registry + "/apitest/plain:none", "OCI_REFERENCE_NOT_FOUND"},
		"unknown name":   {s.target.Registry + "/apitest/none:1", "OCI_REFERENCE_NOT_FOUND"},
		"unknown digest": {s.target.Registry + "/apitest/plain@sha256:" + strings.Repeat("0", 64), "OCI_REFERENCE_NOT_FOUND"},
		"registry away":  {away + "/apitest/plain:1", "OCI_INTERACTION"},
	} {
		t.Run(name, func(t *testing.T) {
			id := s.id()
			s.call(t, http.MethodPost, "/api/v1/challenge", object{"id": id, "scenario": c.reference}).
				wantError(t, http.StatusBadRequest, c.reason)
			s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusNotFound)
			s.update(t, existing, "scenario", object{"scenario": c.reference}).wantError(t, http.StatusBadRequest, c.reason)
			got := s.call(t, http.MethodGet, challengePath(existing), nil).want(t, http.StatusOK)
			if got.body["scenario"] != s.scenarios.plain {
				t.Errorf("a failed update stored %v", got.body["scenario"])
			}
		})
	}
}

func scenarioContent(t *testing.T, s *suite) {
	for name, content := range map[string]files{
		"no project":      {"main": s.scenarios.program},
		"not YAML":        {"Pulumi.yaml": []byte("\t{"), "main": s.scenarios.program},
		"another runtime": {"Pulumi.yaml": []byte("name: x\nruntime: python\n"), "main": s.scenarios.program},
		"no binary":       {"Pulumi.yaml": prebuilt("x", nil)["Pulumi.yaml"]},
		"exits":           prebuilt("x", []byte("#!/bin/sh\nexit 1\n")),
		"traversal": {
			"Pulumi.yaml": prebuilt("x", nil)["Pulumi.yaml"], "main": s.scenarios.program, "../../evil": []byte("x"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			reference, _ := s.scenarios.push(t, "bad-"+strings.ToLower(strings.ReplaceAll(name, " ", "-"))+":1", content)
			s.wantMismatch(t, object{"scenario": reference})
		})
	}
	t.Run("failing preview", func(t *testing.T) {
		got := s.wantMismatch(t, object{"scenario": s.scenarios.plain, "additional": object{"fail_preview": "out of cheese"}})
		if !strings.Contains(violations(got, "description"), "out of cheese") {
			t.Errorf("the author is not told why: %s", got.raw)
		}
	})
}

// wantMismatch creates a challenge that must be refused because of its
// scenario, and looks that nothing was stored.
func (s *suite) wantMismatch(t *testing.T, body object) answer {
	t.Helper()
	body["id"] = s.id()
	got := s.call(t, http.MethodPost, "/api/v1/challenge", body).
		wantError(t, http.StatusBadRequest, "SCENARIO_NON_MATCHING_SPECIFICATION")
	if violations(got, "field") != "scenario" || violations(got, "reason") != "VALIDATION" {
		t.Errorf("violations: %s", got.raw)
	}
	id, _ := body["id"].(string)
	s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusNotFound)
	return got
}

// scenarioSource: source that does not compile is told with the compiler's
// words, or that it should be pushed prebuilt.
func scenarioSource(t *testing.T, s *suite) {
	reference, _ := s.scenarios.push(t, "source:1", files{
		"Pulumi.yaml": []byte("name: source\nruntime: go\n"),
		"go.mod":      []byte("module source\n\ngo 1.25\n"),
		"main.go":     []byte("package main\n\nfunc main() { undefinedName() }\n"),
	})
	got := s.call(t, http.MethodPost, "/api/v1/challenge", object{"id": s.id(), "scenario": reference}).
		wantError(t, http.StatusInternalServerError, "SCENARIO_PREPROCESSING")
	want := "undefinedName"
	if !s.target.Toolchain {
		want = "push the directory again"
	}
	if description, _ := got.detail("ResourceInfo")["description"].(string); !strings.Contains(description, want) {
		t.Errorf("the author is not told why, or what to do: %s", got.raw)
	}
}

func tagAndDigest(t *testing.T, s *suite) {
	name := s.id()
	_, renamed := s.scenarios.push(t, name+":2", prebuilt("renamed", s.scenarios.program))
	reference, _ := s.scenarios.push(t, name+":1", prebuilt("plain", s.scenarios.program))
	id := s.challenge(t, object{"scenario": reference + "@" + renamed})
	if got := s.create(t, id, "1").want(t, http.StatusOK).given(t); got.Project != "renamed" {
		t.Errorf("the project is %q", got.Project)
	}
}

func prebuiltOverHTTP(t *testing.T, s *suite) {
	id := s.challenge(t, object{"additional": object{"info": "nc 127.0.0.1 7"}})
	if got := s.create(t, id, "1").want(t, http.StatusOK); got.body["connectionInfo"] != "nc 127.0.0.1 7" {
		t.Errorf("got %s", got.raw)
	}
}

func retrieveChallenge(t *testing.T, s *suite) {
	s.call(t, http.MethodGet, challengePath(s.id()), nil).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "additional": object{"home": h.addr}})
	h.wantPooled(t, 1)
	if got := s.sources(t, id); got != "" {
		t.Errorf("pooled instances are shown: %s", got)
	}
	s.create(t, id, "3").want(t, http.StatusOK)
	if got := s.sources(t, id); got != "3" {
		t.Errorf("the claimed instance is not shown: %q", got)
	}
}

// sources joins the sources of the instances that a challenge shows.
func (s *suite) sources(t *testing.T, id string) string {
	t.Helper()
	list, _ := s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK).body["instances"].([]any)
	var sources []string
	for _, i := range list {
		instance, _ := i.(map[string]any)
		source, _ := instance["sourceId"].(string)
		sources = append(sources, source)
	}
	return strings.Join(sources, " ")
}

func queryChallenges(t *testing.T, s *suite) {
	empty, full := s.challenge(t, nil), s.challenge(t, nil)
	s.create(t, full, "1").want(t, http.StatusOK)
	found := map[any]int{empty: -1, full: -1}
	for _, c := range s.call(t, http.MethodGet, "/api/v1/challenge", nil).want(t, http.StatusOK).results(t) {
		if n, ok := found[c["id"]]; ok {
			if n != -1 {
				t.Errorf("%v is there twice", c["id"])
			}
			instances, _ := c["instances"].([]any)
			found[c["id"]] = len(instances)
		}
	}
	if found[empty] != 0 || found[full] != 1 {
		t.Errorf("instances by challenge: %v", found)
	}
}

func deleteChallenge(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "additional": object{"home": h.addr}})
	h.wantPooled(t, 1)
	s.create(t, id, "1").want(t, http.StatusOK)
	s.create(t, id, "2").want(t, http.StatusOK)
	h.want(t, 3) // The pool is refilled.
	if got := s.call(t, http.MethodDelete, challengePath(id), nil).want(t, http.StatusOK); strings.TrimSpace(got.raw) != "{}" {
		t.Errorf("the answer is %q", got.raw)
	}
	h.want(t, 0)
	s.call(t, http.MethodGet, challengePath(id), nil).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
	s.retrieve(t, id, "1").wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	s.call(t, http.MethodDelete, challengePath(id), nil).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
	s.call(t, http.MethodPost, "/api/v1/challenge", object{"id": id, "scenario": s.scenarios.plain}).want(t, http.StatusOK)
}

// deleteChallengeTwice: of equal deletions at once, one succeeds.
func deleteChallengeTwice(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	s.create(t, id, "1").want(t, http.StatusOK)
	codes := s.atOnce(t, 5, http.MethodDelete, challengePath(id), nil)
	if codes[http.StatusOK] != 1 || codes[http.StatusNotFound] != 4 {
		t.Errorf("answers by code: %v", codes)
	}
}

// atOnce sends equal requests at once and counts the codes of the answers.
func (s *suite) atOnce(t *testing.T, n int, method, path string, body any) map[int]int {
	t.Helper()
	type outcome struct {
		code int
		err  error
	}
	outcomes := make(chan outcome, n)
	for range n {
		go func() {
			a, err := s.try(method, path, body)
			outcomes <- outcome{a.code, err}
		}()
	}
	codes := map[int]int{}
	for range n {
		o := <-outcomes
		if o.err != nil {
			t.Error(o.err)
		}
		codes[o.code]++
	}
	return codes
}
