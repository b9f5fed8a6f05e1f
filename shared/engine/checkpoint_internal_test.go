package engine

import (
	"encoding/json"
	"testing"
)

func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"version":3,"deployment":{"manifest":{},"resources":[{"urn":"urn:pulumi:a::b::c:d:E::f","type":"c:d:E"}]}}`),
		[]byte(`{"version":1,"kind":0,"sequenceID":1,"operationID":1}`))
	f.Add([]byte(nil), []byte("{}"))
	f.Add([]byte("{}"), []byte("[]"))
	f.Fuzz(func(t *testing.T, base, entry []byte) {
		c := checkpoint{Base: base, Journal: []json.RawMessage{entry}}
		state, err := c.replay(t.Context())
		if err == nil && state == nil {
			t.Error("neither a state nor an error")
		}
		if err == nil {
			made(state)
		}
	})
}
