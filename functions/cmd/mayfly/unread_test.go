package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

// TestUnreadableRecord damages one record of a challenge, and then one of an
// instance: queries show all others first, and then end with an error.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t)
	s := newServer(t, append(quiet, "REDIS_URL="+url)...)
	s.Start()
	reference := pushService(t, s, "service:1")
	for _, id := range []string{"one", "two", "three"} {
		s.Must(http.MethodPost, "/challenge", map[string]any{"id": id, "scenario": reference})
		s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": "1"})
	}
	client := openRedis(t, url)
	damage := func(keys, field, value string) {
		for _, key := range client.Keys(t.Context(), keys).Val() {
			if client.HGet(t.Context(), key, field).Val() == value || value == "" {
				if err := client.HSet(t.Context(), key, "additional", "{").Err(); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("there is nothing like %s", keys)
	}
	damage("mayfly:{*}:c", "id", "one")
	wantPartial(t, s.Must(http.MethodGet, "/challenge", nil).Raw, 2)
	damage("mayfly:{*}:i:*", "source", "")
	wantPartial(t, s.Must(http.MethodGet, "/instance?sourceId=1", nil).Raw, 2)
}

// wantPartial fails the test unless a stream has this many results, and then an
// error that does not tell what is stored.
func wantPartial(t *testing.T, stream string, results int) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stream), "\n")
	last := lines[len(lines)-1]
	if len(lines) != results+1 || !strings.Contains(last, `"error"`) || !strings.Contains(last, "INTERNAL") {
		t.Errorf("want %d results and an error: %s", results, stream)
	}
	for _, line := range lines[:len(lines)-1] {
		if !strings.Contains(line, `"result"`) {
			t.Errorf("want a result: %s", line)
		}
	}
}
