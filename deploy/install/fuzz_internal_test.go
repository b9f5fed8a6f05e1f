package install

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzInventory: what is remembered names objects, and is written as it was
// read.
func FuzzInventory(f *testing.F) {
	f.Add([]byte(`[{"Group":"","Version":"v1","Kind":"ConfigMap","Namespace":"mayfly","Name":"settings"}]`))
	f.Add([]byte(`[{"Version":"v1","Kind":"Namespace"}]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, err := parseInventory(text)
		if err != nil {
			return
		}
		for _, id := range ids {
			if id.Version == "" || id.Kind == "" || id.Name == "" {
				t.Errorf("this is an object: %+v", id)
			}
		}
		written, err := json.Marshal(ids)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseInventory(written)
		if d := cmp.Diff(ids, again, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Errorf("it is another once it is written: %v %s", err, d)
		}
	})
}
