package apitest

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

func poolRows() map[string]func(*testing.T, *suite) {
	return map[string]func(*testing.T, *suite){
		"A37_pre_provisioning":      preProvisioning,
		"A38_claim":                 claim,
		"A38_claims_share_nothing":  claimsShareNothing,
		"A39_claim_with_additional": claimWithAdditional,
		"A40_max":                   poolMax,
		"A41_refill_on_delete":      refillOnDelete,
		"A42_expired_stops_pooling": expiredStopsPooling,
	}
}

func preProvisioning(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 2, "additional": object{"home": h.addr}})
	h.want(t, 2)
	if got := s.sources(t, id); got != "" {
		t.Errorf("pooled instances are shown: %q", got)
	}
	if got := s.call(t, http.MethodGet, "/api/v1/instance", nil).want(t, http.StatusOK); got.raw != "" {
		t.Errorf("pooled instances are shown: %s", got.raw)
	}
}

func claim(t *testing.T, s *suite) {
	h := newHome(t, s)
	// A fresh deployment would take ten seconds.
	id := s.challenge(t, object{"min": 1, "timeout": "600s", "additional": object{"home": h.addr, "slow": "10s"}})
	h.wantPooled(t, 1)
	got := s.create(t, id, "1").want(t, http.StatusOK)
	if !got.pooled(t) {
		t.Errorf("it is not from the pool: %s", got.raw)
	}
	if left := got.date(t, "until").Sub(got.date(t, "lastRenew")); (left - 10*time.Minute).Abs() > time.Second {
		t.Errorf("it lives for %s from the claim", left)
	}
	h.want(t, 2) // the refill
}

// claimsShareNothing: more sources than instances, all at once.
func claimsShareNothing(t *testing.T, s *suite) {
	id := s.challenge(t, object{"min": 5, "max": 5})
	const sources = 20
	type outcome struct {
		a   answer
		err error
	}
	outcomes := make(chan outcome, sources)
	for range sources {
		source := s.id()
		go func() {
			a, err := s.try(http.MethodPost, "/api/v1/instance", object{"challengeId": id, "sourceId": source})
			outcomes <- outcome{a, err}
		}()
	}
	seen := map[string]bool{}
	for range sources {
		o := <-outcomes
		if o.err != nil {
			t.Error(o.err)
			continue
		}
		identity := o.a.want(t, http.StatusOK).given(t).Identity
		if seen[identity] {
			t.Errorf("two sources share %s", identity)
		}
		seen[identity] = true
	}
}

func claimWithAdditional(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "additional": object{"home": h.addr, "a": "1"}})
	h.wantPooled(t, 1)
	pooled := h.running()
	got := s.call(t, http.MethodPost, "/api/v1/instance",
		object{"challengeId": id, "sourceId": "1", "additional": object{"b": "2"}}).want(t, http.StatusOK)
	given := got.given(t)
	if given.Additional["a"] != "1" || given.Additional["b"] != "2" {
		t.Errorf("the program was given %v", given.Additional)
	}
	if !slices.Contains(pooled, given.Identity) {
		t.Errorf("%s is none of the pool's: %v", given.Identity, pooled)
	}
}

func poolMax(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "max": 1, "additional": object{"home": h.addr}})
	h.wantPooled(t, 1)
	s.create(t, id, "1").want(t, http.StatusOK)
	second := s.create(t, id, "2").want(t, http.StatusOK)
	if second.pooled(t) {
		t.Error("the pool was filled beyond max")
	}
	h.want(t, 2)
	if n := h.started(); n != 2 {
		t.Errorf("%d were deployed", n)
	}
}

func refillOnDelete(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 1, "max": 1, "additional": object{"home": h.addr}})
	h.wantPooled(t, 1)
	first := s.create(t, id, "1").want(t, http.StatusOK).given(t)
	s.call(t, http.MethodDelete, instancePath(id, "1"), nil).want(t, http.StatusOK)
	eventually(t, "the pool is refilled", func() bool {
		running := h.running()
		return len(running) == 1 && running[0] != first.Identity
	})
}

func expiredStopsPooling(t *testing.T, s *suite) {
	h := newHome(t, s)
	id := s.challenge(t, object{"min": 2, "max": 4, "additional": object{"home": h.addr}})
	h.wantPooled(t, 2)
	s.update(t, id, "until", object{"until": time.Now().UTC()}).want(t, http.StatusOK)
	s.update(t, id, "min", object{"min": 3}).want(t, http.StatusOK)
	s.create(t, id, "1").wantError(t, http.StatusBadRequest, "CHALLENGE_EXPIRED")
	s.update(t, id, "until", nil).want(t, http.StatusOK)
	h.want(t, 3)
}
