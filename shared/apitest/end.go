package apitest

import (
	"net/http"
	"testing"
	"time"
)

func endRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A43_one_tick":                 oneTick,
		"A44_expiry":                   expiry,
		"A45_source_may_create_anew":   createAnew,
		"A46_delete_frees_what_it_was": deleteFrees,
	}
}

// oneTick: a single event destroys what is due, also when it comes twice.
func oneTick(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"timeout": "1s", "additional": object{"home": h.addr}})
	end := s.create(t, id, "1").want(t, http.StatusOK).date(t, "until")
	eventually(t, "the end has passed", func() bool { return time.Now().After(end.Add(100 * time.Millisecond)) })
	for range 2 {
		a, err := s.send(http.MethodPost, s.target.Expire, nil,
			"Ce-Specversion", "1.0", "Ce-Type", "dev.mayfly.tick", "Ce-Source", "/apitest", "Ce-Id", s.id())
		if err != nil {
			t.Fatal(err)
		}
		if a.code/100 != 2 {
			t.Errorf("HTTP %d: %s", a.code, a.raw)
		}
	}
	h.want(t, 0)
	s.retrieve(t, id, "1").wantError(t, http.StatusNotFound, "INSTANCE_NOT_FOUND")
}

// expiry: the system's own ticks destroy what is due.
func expiry(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"timeout": "2s", "additional": object{"home": h.addr}})
	end := s.create(t, id, "1").want(t, http.StatusOK).date(t, "until")
	eventually(t, "it is gone from the API", func() bool { return s.retrieve(t, id, "1").code == http.StatusNotFound })
	if early := time.Until(end); early > 100*time.Millisecond {
		t.Errorf("it was gone %s early", early)
	}
	h.want(t, 0)
	s.call(t, http.MethodGet, challengePath(id), nil).want(t, http.StatusOK)
}

// createAnew: an instance whose end has passed stands in nobody's way.
func createAnew(t *testing.T, s *suite) {
	id := s.challenge(t, object{"timeout": "2s"})
	first := s.create(t, id, "1").want(t, http.StatusOK)
	end := first.date(t, "until")
	eventually(t, "the end has passed", func() bool { return time.Now().After(end.Add(100 * time.Millisecond)) })
	second := s.create(t, id, "1").want(t, http.StatusOK)
	if second.given(t).Identity == first.given(t).Identity {
		t.Error("the new instance is the old one")
	}
}

// deleteFrees: whichever replica answers, a delete after an update leaves
// nothing behind.
func deleteFrees(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"additional": object{"home": h.addr}})
	s.create(t, id, "1").want(t, http.StatusOK)
	s.update(t, id, "scenario", object{"scenario": s.scenarios.renamed}).want(t, http.StatusOK)
	s.call(t, http.MethodDelete, instancePath(id, "1"), nil).want(t, http.StatusOK)
	h.want(t, 0)
}

// restartSafety: what runs before the system dies is found after, and can be
// destroyed.
func restartSafety(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "timeout": "600s", "additional": object{"home": h.addr}})
	h.want(t, 1)
	before := s.create(t, id, "1").want(t, http.StatusOK)
	h.want(t, 2)
	s.target.Kill()
	after := s.retrieve(t, id, "1").want(t, http.StatusOK)
	if after.body["connectionInfo"] != before.body["connectionInfo"] || after.body["since"] != before.body["since"] {
		t.Errorf("before %s\nafter %s", before.raw, after.raw)
	}
	h.want(t, 2)
	s.call(t, http.MethodDelete, instancePath(id, "1"), nil).want(t, http.StatusOK)
	eventually(t, "the instance is destroyed", func() bool { return len(h.running()) <= 1 })
	s.call(t, http.MethodDelete, challengePath(id), nil).want(t, http.StatusOK)
	h.want(t, 0)
}
