package engine

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzReplay replays any journal, an entry on each line. What is replayed can be
// stored, and once stored is replayed as the same.
func FuzzReplay(f *testing.F) {
	const urn = "urn:pulumi:a::b::c:d:E::"
	base := []byte(`{"version":3,"deployment":{"manifest":{},"resources":[
		{"urn":"` + urn + `f","type":"c:d:E","custom":true,"id":"1","outputs":{"a":{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"ImEi"}}},
		{"urn":"` + urn + `g","type":"c:d:E","custom":true,"id":"2","dependencies":["` + urn + `f"]}]}}`)
	f.Add(base, []byte(`{"version":1,"kind":0,"sequenceID":1,"operationID":1}`))
	f.Add(base, []byte(`{"version":1,"kind":0,"sequenceID":1,"operationID":1,"operation":{"type":"deleting","resource":{"urn":"`+urn+`g","type":"c:d:E","custom":true,"id":"2"}}}
{"version":1,"kind":1,"sequenceID":2,"operationID":1,"removeOld":1}
{"version":1,"kind":0,"sequenceID":3,"operationID":2,"operation":{"type":"creating","resource":{"urn":"`+urn+`h","type":"c:d:E","custom":true}}}
{"version":1,"kind":1,"sequenceID":4,"operationID":2,"state":{"urn":"`+urn+`h","type":"c:d:E","custom":true,"id":"3"}}`))
	f.Add([]byte(nil), []byte(`{"version":1,"kind":0,"sequenceID":1,"operationID":1,"operation":{"type":"creating","resource":{"urn":"`+urn+`f","type":"c:d:E","custom":true}}}
{"version":1,"kind":2,"sequenceID":2,"operationID":1}`))
	f.Add([]byte(nil), []byte("{}\n{}"))
	f.Add([]byte("{}"), []byte("[]"))
	f.Fuzz(func(t *testing.T, base, journal []byte) {
		c := checkpoint{Base: base}
		for line := range bytes.Lines(journal) {
			c.Journal = append(c.Journal, json.RawMessage(line))
		}
		state, err := c.replay(t.Context())
		if (err == nil) != (state != nil) {
			t.Fatalf("a state %v and an error %v", state, err)
		}
		if err != nil {
			return
		}
		stored, err := encode(t.Context(), state)
		if err != nil {
			return
		}
		again, err := checkpoint{Base: stored}.replay(t.Context())
		if err != nil {
			t.Fatalf("what was stored is refused: %v", err)
		}
		if d := cmp.Diff(made(state), made(again)); d != "" {
			t.Errorf("stored and read (-before +after):\n%s", d)
		}
		if len(again.PendingOperations) != len(state.PendingOperations) {
			t.Errorf("%d operations are pending, and were %d", len(again.PendingOperations), len(state.PendingOperations))
		}
	})
}
