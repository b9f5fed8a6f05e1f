package apitest

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

func updateRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A20_update_mask":                 updateMask,
		"A21_update_of_dates":             updateDates,
		"A22_update_in_place":             updateScenario("update_in_place", true),
		"A22_blue_green":                  updateScenario("blue_green", false),
		"A22_recreate":                    updateScenario("recreate", true),
		"A22_failing_update":              failingUpdate,
		"A22_repushed_tag":                repushedTag,
		"A23_no_op_update":                noOpUpdate,
		"A24_update_of_additional":        updateAdditional,
		"A25_update_of_pool":              updatePool,
		"A25_pool_follows_blue_green":     updatePooled("blue_green"),
		"A25_pool_follows_in_place":       updatePooled("update_in_place"),
		"A20_update_of_unknown_challenge": updateUnknown,
	}
}

func updateUnknown(t *testing.T, s *suite) {
	s.update(t, s.id(), "timeout", nil).wantError(t, http.StatusNotFound, "CHALLENGE_NOT_FOUND")
}

func updateMask(t *testing.T, s *suite) {
	id := s.challenge(t, object{"timeout": "600s", "until": "2222-12-22T22:22:22Z", "additional": object{"k": "v"}, "max": 3})
	s.update(t, id, "foo", nil).wantError(t, http.StatusBadRequest, "CHALLENGE_INVALID_UPDATE_MASK")
	unmasked := s.call(t, http.MethodPatch, challengePath(id), object{"timeout": "1s", "max": 9}).want(t, http.StatusOK)
	if unmasked.body["timeout"] != "600s" || unmasked.body["max"] != "3" {
		t.Errorf("without a mask: %s", unmasked.raw)
	}
	got := s.update(t, id, "timeout", object{"max": 9}).want(t, http.StatusOK)
	additional, _ := got.body["additional"].(map[string]any)
	if got.body["timeout"] != nil || got.body["until"] != "2222-12-22T22:22:22Z" || got.body["max"] != "3" || additional["k"] != "v" {
		t.Errorf("got %s", got.raw)
	}
}

func updateDates(t *testing.T, s *suite) {
	id := s.challenge(t, object{"timeout": "600s", "until": "2222-12-22T22:22:22Z"})
	s.create(t, id, "1").want(t, http.StatusOK)
	s.update(t, id, "timeout", object{"timeout": "3600s"}).want(t, http.StatusOK)
	got := s.retrieve(t, id, "1").want(t, http.StatusOK)
	if left := time.Until(got.date(t, "until")); left < 58*time.Minute || left > time.Hour+time.Minute {
		t.Errorf("the instance ends in %s", left)
	}
	s.update(t, id, "timeout", nil).want(t, http.StatusOK)
	if got := s.retrieve(t, id, "1").want(t, http.StatusOK); got.body["until"] != "2222-12-22T22:22:22Z" {
		t.Errorf("without a timeout: %s", got.raw)
	}
	s.update(t, id, "timeout,until", nil).want(t, http.StatusOK)
	got = s.retrieve(t, id, "1").want(t, http.StatusOK)
	if _, ok := got.body["until"]; ok {
		t.Errorf("without both: %s", got.raw)
	}
	s.update(t, id, "timeout", object{"timeout": "1s"}).want(t, http.StatusOK)
	eventually(t, "the instance is gone", func() bool { return s.retrieve(t, id, "1").code == http.StatusNotFound })
}

// updateScenario: the source keeps an instance, of the new scenario.
func updateScenario(strategy string, keepsIdentity bool) func(*testing.T, *suite) {
	return func(t *testing.T, s *suite) {
		h := newHome(t, s)
		id := s.challenge(t, object{"timeout": "600s", "until": "2222-12-22T22:22:22Z", "additional": object{"home": h.addr}})
		before := s.create(t, id, "1").want(t, http.StatusOK)
		h.want(t, 1)
		fields := object{
			"scenario": s.scenarios.renamed, "updateStrategy": strategy,
			"additional": object{"home": h.addr, "toto": "toto"},
		}
		s.update(t, id, "additional,scenario", fields).want(t, http.StatusOK)
		after := s.retrieve(t, id, "1").want(t, http.StatusOK)
		old, now := before.given(t), after.given(t)
		if now.Project != "renamed" || now.Additional["toto"] != "toto" || (old.Identity == now.Identity) != keepsIdentity {
			t.Errorf("before %v, after %v", old, now)
		}
		if !after.date(t, "since").Equal(before.date(t, "since")) {
			t.Errorf("since went from %v to %v", before.body["since"], after.body["since"])
		}
		h.want(t, 1)
		if running := h.running(); !slices.Equal(running, []string{now.Identity}) {
			t.Errorf("what runs is %v, want %s", running, now.Identity)
		}
		s.update(t, id, "additional,scenario", fields).want(t, http.StatusOK)
		if again := s.retrieve(t, id, "1").given(t); again.Identity != now.Identity {
			t.Error("the same update once more made another instance")
		}
		s.call(t, http.MethodPatch, instancePath(id, "1"), object{}).want(t, http.StatusOK)
		s.call(t, http.MethodDelete, instancePath(id, "1"), nil).want(t, http.StatusOK)
		h.want(t, 0)
	}
}

// failingUpdate: the error is typed, and all can be deleted after it.
func failingUpdate(t *testing.T, s *suite) {
	for _, strategy := range []string{"update_in_place", "blue_green", "recreate"} {
		t.Run(strategy, func(t *testing.T) {
			h := newHome(t, s)
			id := s.challenge(t, object{"additional": object{"home": h.addr}})
			s.create(t, id, "1").want(t, http.StatusOK)
			h.want(t, 1)
			s.update(t, id, "additional", object{
				"updateStrategy": strategy, "additional": object{"home": h.addr, "fail": "out of cheese"},
			}).wantError(t, http.StatusInternalServerError, "DEPLOYMENT_FAILED")
			s.call(t, http.MethodDelete, challengePath(id), nil).want(t, http.StatusOK)
			h.want(t, 0)
		})
	}
}

// repushedTag: a tag that was pushed anew takes the new content on the next
// update that names it.
func repushedTag(t *testing.T, s *suite) {
	name := s.id() + ":1"
	reference, _ := s.scenarios.push(t, name, prebuilt("first", s.scenarios.program))
	id := s.challenge(t, object{"scenario": reference})
	s.create(t, id, "1").want(t, http.StatusOK)
	s.scenarios.push(t, name, prebuilt("second", s.scenarios.program))
	if got := s.create(t, id, "2").want(t, http.StatusOK).given(t); got.Project != "first" {
		t.Errorf("a tag changed a challenge by itself: %v", got)
	}
	s.update(t, id, "scenario", object{"scenario": reference}).want(t, http.StatusOK)
	if got := s.retrieve(t, id, "1").want(t, http.StatusOK).given(t); got.Project != "second" {
		t.Errorf("got %v", got)
	}
}

func noOpUpdate(t *testing.T, s *suite) {
	// A deployment would take twenty seconds.
	id := s.challenge(t, object{"timeout": "600s", "min": 1, "additional": object{"slow": "20s"}})
	s.create(t, id, "1").want(t, http.StatusOK)
	before := s.retrieve(t, id, "1").want(t, http.StatusOK)
	pinned := s.scenarios.plain + "@" + s.scenarios.plainDigest
	start := time.Now()
	got := s.update(t, id, "scenario,additional,min", object{
		"scenario": pinned, "min": 1, "additional": object{"slow": "20s"}, "updateStrategy": "recreate",
	}).want(t, http.StatusOK)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if got.body["scenario"] != pinned {
		t.Errorf("the new reference is not stored: %v", got.body["scenario"])
	}
	after := s.retrieve(t, id, "1").want(t, http.StatusOK)
	if !after.date(t, "until").After(before.date(t, "until")) {
		t.Error("the update did not count the end anew")
	}
}

func updateAdditional(t *testing.T, s *suite) {
	id := s.challenge(t, object{"additional": object{"a": "1"}})
	s.create(t, id, "1").want(t, http.StatusOK)
	s.update(t, id, "additional", object{"additional": object{"b": "2"}}).want(t, http.StatusOK)
	got := s.retrieve(t, id, "1").want(t, http.StatusOK).given(t).Additional
	if got["b"] != "2" || len(got) != 1 {
		t.Errorf("the program was given %v", got)
	}
	s.update(t, id, "additional", nil).want(t, http.StatusOK)
	if got := s.retrieve(t, id, "1").want(t, http.StatusOK).given(t).Additional; len(got) != 0 {
		t.Errorf("the program was given %v", got)
	}
}

// updatePool goes through the rows of the delta table that a caller can see.
func updatePool(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 3, "additional": object{"home": h.addr}})
	for _, step := range []struct {
		name, mask string
		fields     object
		claims     int
		running    int // claimed and pooled
	}{
		{"at first", "", nil, 0, 3},
		{"min-decrease", "min", object{"min": 1}, 0, 1},
		{"min-increase", "min", object{"min": 3}, 0, 3},
		{"claimed, and refilled", "", nil, 1, 4},
		{"max-decrease", "max", object{"max": 2}, 0, 2},
		{"max-increase-new-room", "max", object{"max": 3}, 0, 3},
		{"max-increase", "max", object{"max": 10}, 0, 4},
		{"pool off", "min", object{"min": 0}, 0, 1},
	} {
		if step.mask != "" {
			s.update(t, id, step.mask, step.fields).want(t, http.StatusOK)
		}
		for range step.claims {
			if !s.create(t, id, s.id()).want(t, http.StatusOK).pooled(t) {
				t.Errorf("%s: not from the pool", step.name)
			}
		}
		h.wantPooled(t, step.running)
	}
}

// updatePooled: after an update the pool gives out what is new, and nothing
// that is destroyed.
func updatePooled(strategy string) func(*testing.T, *suite) {
	return func(t *testing.T, s *suite) {
		h := newHome(t, s)
		id := s.challenge(t, object{"min": 2, "additional": object{"home": h.addr}})
		h.wantPooled(t, 2)
		s.update(t, id, "scenario", object{"scenario": s.scenarios.renamed, "updateStrategy": strategy}).want(t, http.StatusOK)
		for _, source := range []string{"1", "2", "3"} {
			got := s.create(t, id, source).want(t, http.StatusOK).given(t)
			if got.Project != "renamed" {
				t.Errorf("source %s got %v", source, got)
			}
			eventually(t, "it runs", func() bool { return slices.Contains(h.running(), got.Identity) })
		}
		h.want(t, 5)
	}
}
