package apitest

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func instanceRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A27_create_instance":      createInstance,
		"A28_single_instance":      singleInstance,
		"A29_unknown_or_expired":   unknownOrExpired,
		"A30_additional_merge":     additionalMerge,
		"A31_retrieve_instance":    retrieveInstance,
		"A32_query_by_source":      queryBySource,
		"A33_renew":                renew,
		"A34_delete_instance":      deleteInstance,
		"A34_failing_deployment":   failingDeployment,
		"A34_delete_while_pending": deleteWhilePending,
		"A35_flags":                flags,
		"A36_identity":             identity,
	}
}

// createInstance goes through the table of the end dates.
func createInstance(t *testing.T, s *suite) {
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, c := range map[string]struct {
		fields object
		want   func(now time.Time) time.Time
	}{
		"neither":                   {nil, func(time.Time) time.Time { return time.Time{} }},
		"timeout":                   {object{"timeout": "600s"}, func(now time.Time) time.Time { return now.Add(10 * time.Minute) }},
		"until":                     {object{"until": soon}, func(time.Time) time.Time { return soon }},
		"both, timeout comes first": {object{"timeout": "10s", "until": soon}, func(now time.Time) time.Time { return now.Add(10 * time.Second) }},
		"both, until comes first":   {object{"timeout": "7200s", "until": soon}, func(time.Time) time.Time { return soon }},
	} {
		t.Run(name, func(t *testing.T) {
			id := s.challenge(t, c.fields)
			got := s.create(t, id, "1").want(t, http.StatusOK)
			since := got.date(t, "since")
			if !got.date(t, "lastRenew").Equal(since) || got.given(t).Identity == "" {
				t.Errorf("got %s", got.raw)
			}
			want := c.want(since)
			if want.IsZero() {
				if _, ok := got.body["until"]; ok {
					t.Errorf("it ends: %s", got.raw)
				}
				return
			}
			if off := got.date(t, "until").Sub(want).Abs(); off > 2*time.Second {
				t.Errorf("it ends %s off", off)
			}
		})
	}
}

func singleInstance(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"additional": object{"home": h.addr}})
	const calls = 50
	codes := s.atOnce(t, calls, http.MethodPost, "/api/v1/instance", object{"challengeId": id, "sourceId": "1"})
	if codes[http.StatusOK] != 1 || codes[http.StatusConflict] != calls-1 {
		t.Errorf("answers by code: %v", codes)
	}
	again := s.create(t, id, "1").wantError(t, http.StatusConflict, "INSTANCE_ALREADY_EXISTS")
	if message, _ := again.body["message"].(string); !strings.Contains(message, "already exist") {
		t.Errorf("clients look for other words than %q", message)
	}
	h.want(t, 1)
	if n := h.started(); n != 1 {
		t.Errorf("%d were deployed", n)
	}
}

func unknownOrExpired(t *testing.T, s *suite) {
	id := s.id()
	s.create(t, id, "1").wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
	s.challenge(t, object{"id": id}) // The id is usable still.
	expired := s.challenge(t, object{"until": "2001-01-01T00:00:00Z"})
	s.create(t, expired, "1").wantError(t, http.StatusBadRequest, "CHALLENGE_EXPIRED")
}

func additionalMerge(t *testing.T, s *suite) {
	id := s.challenge(t, object{"additional": object{"a": "1", "b": "1"}})
	got := s.call(t, http.MethodPost, "/api/v1/instance",
		object{"challengeId": id, "sourceId": "1", "additional": object{"b": "2"}}).want(t, http.StatusOK)
	if saw := got.given(t).Additional; saw["a"] != "1" || saw["b"] != "2" || len(saw) != 2 {
		t.Errorf("the program was given %v", saw)
	}
	s.update(t, id, "timeout", object{"timeout": "600s"}).want(t, http.StatusOK) // so that it can be renewed
	for _, a := range []answer{
		got, s.retrieve(t, id, "1").want(t, http.StatusOK),
		s.call(t, http.MethodPatch, instancePath(id, "1"), object{}).want(t, http.StatusOK),
	} {
		if shown, _ := a.body["additional"].(map[string]any); shown["b"] != "2" || len(shown) != 1 {
			t.Errorf("shown is %v", shown)
		}
	}
	challenge := s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK)
	if shown, _ := challenge.body["additional"].(map[string]any); shown["b"] != "1" {
		t.Errorf("the challenge shows %v", shown)
	}
}

func retrieveInstance(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	s.create(t, id, "1").want(t, http.StatusOK)
	s.retrieve(t, id, "1").want(t, http.StatusOK)
	s.retrieve(t, id, "11").wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	s.retrieve(t, s.id(), "1").wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
}

func queryBySource(t *testing.T, s *suite) {
	mine, other := s.id(), s.id()
	var want []string
	for range 2 {
		id := s.challenge(t, nil)
		s.create(t, id, mine).want(t, http.StatusOK)
		s.create(t, id, other).want(t, http.StatusOK)
		want = append(want, id)
	}
	for _, key := range []string{"sourceId", "source_id"} {
		var got []string
		for _, i := range s.call(t, http.MethodGet, "/api/v1/instance?"+key+"="+mine, nil).want(t, http.StatusOK).results(t) {
			challenge, _ := i["challengeId"].(string)
			got = append(got, challenge)
		}
		slices.Sort(got)
		if !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	for _, query := range []string{"", "?sourceId=", "?sourceId=" + s.id()} {
		if got := s.call(t, http.MethodGet, "/api/v1/instance"+query, nil).want(t, http.StatusOK); got.raw != "" {
			t.Errorf("%q: %s", query, got.raw)
		}
	}
}

func renew(t *testing.T, s *suite) {
	path := func(id string) string { return instancePath(id, "1") }
	s.call(t, http.MethodPatch, path(s.id()), object{}).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")

	fixed := s.challenge(t, nil)
	s.call(t, http.MethodPatch, path(fixed), object{}).wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	s.create(t, fixed, "1").want(t, http.StatusOK)
	s.call(t, http.MethodPatch, path(fixed), object{}).wantError(t, http.StatusBadRequest, "CHALLENGE_NO_RENEWAL")

	id := s.challenge(t, object{"timeout": "600s"})
	before := s.create(t, id, "1").want(t, http.StatusOK)
	after := s.call(t, http.MethodPatch, path(id), object{}).want(t, http.StatusOK)
	if !after.date(t, "lastRenew").After(before.date(t, "lastRenew")) || !after.date(t, "until").After(before.date(t, "until")) ||
		after.body["since"] != before.body["since"] {
		t.Errorf("before %s\nafter %s", before.raw, after.raw)
	}

	capped := s.challenge(t, object{"timeout": "86400s", "until": "2222-12-22T22:22:22Z"})
	s.create(t, capped, "1").want(t, http.StatusOK)
	s.update(t, capped, "until", object{"until": time.Now().Add(time.Hour).UTC().Truncate(time.Second)}).want(t, http.StatusOK)
	challenge := s.call(t, http.MethodGet, challengePath(capped), nil).want(t, http.StatusOK)
	if got := s.call(t, http.MethodPatch, path(capped), object{}).want(t, http.StatusOK); got.body["until"] != challenge.body["until"] {
		t.Errorf("it ends %v, the challenge %v", got.body["until"], challenge.body["until"])
	}

	short := s.challenge(t, object{"timeout": "1s"})
	end := s.create(t, short, "1").want(t, http.StatusOK).date(t, "until")
	eventually(t, "the end has passed", func() bool { return time.Now().After(end.Add(100 * time.Millisecond)) })
	// It may have been destroyed by now.
	got := s.call(t, http.MethodPatch, path(short), object{})
	if got.code == http.StatusNotFound {
		got.wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	} else {
		got.wantError(t, http.StatusBadRequest, "INSTANCE_EXPIRED")
	}
}

func deleteInstance(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"additional": object{"home": h.addr}})
	s.call(t, http.MethodDelete, instancePath(s.id(), "1"), nil).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
	s.call(t, http.MethodDelete, instancePath(id, "1"), nil).wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	s.create(t, id, "1").want(t, http.StatusOK)
	h.want(t, 1)
	if got := s.call(t, http.MethodDelete, instancePath(id, "1"), nil).want(t, http.StatusOK); strings.TrimSpace(got.raw) != "{}" {
		t.Errorf("the answer is %q", got.raw)
	}
	h.want(t, 0)
	s.retrieve(t, id, "1").wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
	s.create(t, id, "1").want(t, http.StatusOK)
	codes := s.atOnce(t, 5, http.MethodDelete, instancePath(id, "1"), nil)
	if codes[http.StatusOK] != 1 || codes[http.StatusNotFound] != 4 {
		t.Errorf("answers by code: %v", codes)
	}
}

// failingDeployment: the error is typed and says why, nothing is left, and the
// source may try again.
func failingDeployment(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"additional": object{"home": h.addr}})
	for _, additional := range []object{{"fail": "out of cheese"}, {"number": "1"}} {
		request := object{"challengeId": id, "sourceId": "1", "additional": additional}
		for range 2 {
			got := s.call(t, http.MethodPost, "/api/v1/instance", request).wantError(t, http.StatusInternalServerError, "DEPLOYMENT_FAILED")
			if _, fails := additional["fail"]; fails && !strings.Contains(got.raw, "out of cheese") {
				t.Errorf("the author is not told why: %s", got.raw)
			}
			if strings.Contains(got.raw, "goroutine ") {
				t.Errorf("a stack is shown: %s", got.raw)
			}
			h.want(t, 0)
			s.retrieve(t, id, "1").want(t, http.StatusNotFound)
		}
	}
}

// deleteWhilePending: whatever comes first, nothing is left in the end.
func deleteWhilePending(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"additional": object{"home": h.addr, "slow": "500ms"}})
	created := make(chan struct{})
	go func() {
		defer close(created)
		_, _ = s.try(http.MethodPost, "/api/v1/instance", object{"challengeId": id, "sourceId": "1"}) // Any answer will do.
	}()
	eventually(t, "it is deleted", func() bool {
		return s.call(t, http.MethodDelete, instancePath(id, "1"), nil).code == http.StatusOK
	})
	<-created
	s.delete(t, instancePath(id, "1"))
	s.retrieve(t, id, "1").want(t, http.StatusNotFound)
	h.want(t, 0)
}

func flags(t *testing.T, s *suite) {
	for _, c := range []struct {
		additional object
		want       []string
	}{
		{object{}, nil},
		{object{"flag": "F{a}"}, []string{"F{a}"}},
		{object{"flags": "F{b}"}, []string{"F{b}"}},
		{object{"flag": "F{a}", "flags": "F{b},F{c}"}, []string{"F{a}", "F{b}", "F{c}"}},
	} {
		id := s.challenge(t, object{"additional": c.additional})
		got := s.create(t, id, "1").want(t, http.StatusOK)
		list, _ := got.body["flags"].([]any)
		var flags []string
		for _, f := range list {
			text, _ := f.(string)
			flags = append(flags, text)
		}
		if !slices.Equal(flags, c.want) {
			t.Errorf("flags are %v, want %v", flags, c.want)
		}
		single, ok := got.body["flag"].(string)
		if ok != (len(c.want) == 1) || (ok && single != c.want[0]) {
			t.Errorf("flag is %q, there: %t, of %v", single, ok, c.want)
		}
	}
}

func identity(t *testing.T, s *suite) {
	id := s.challenge(t, nil)
	one, two := s.create(t, id, "1").want(t, http.StatusOK), s.create(t, id, "2").want(t, http.StatusOK)
	if one.given(t).Identity == two.given(t).Identity {
		t.Error("two instances have the same identity")
	}
	for _, a := range []answer{one, two} {
		given := a.given(t)
		if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(given.Identity) {
			t.Errorf("the identity is %q", given.Identity)
		}
		delete(a.body, "connectionInfo") // There the scenario told it.
		for key, value := range a.body {
			if text, _ := value.(string); strings.Contains(text, given.Identity) {
				t.Errorf("%s tells the identity: %s", key, text)
			}
		}
	}
}
