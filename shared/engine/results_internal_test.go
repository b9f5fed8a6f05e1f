package engine

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// FuzzResults has a program export anything. It is told to be wrong, or is all
// that was exported.
func FuzzResults(f *testing.F) {
	const secret = `{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"ImEi"}`
	const unknown = `"04da6b54-80e4-46f7-96ec-b56ff0331ba9"`
	const output = `{"4dabf18193072939515e22adb298388d":"d0e6a833031e9bbcd3f4e8bde6ca49a4","value":"a","secret":true}`
	f.Add([]byte(`{"connection_info":"nc a 1","flag":` + secret + `,"flags":["a",` + secret + `,` + unknown + `]}`))
	f.Add([]byte(`{"connection_info":null,"flag":` + unknown + `,"flags":` + unknown + `}`))
	f.Add([]byte(`{"connection_info":` + output + `,"flag":` + output + `,"flags":[` + output + `]}`))
	f.Add([]byte(`{"flags":[null]}`))
	f.Add([]byte(`{"flags":["a",7,{},[]]}`))
	f.Add([]byte(`{"connection_info":{"4dabf18193072939515e22adb298388d":"c44067f5952c0a294b673a41bacd8c17","hash":"","text":"a"}}`))
	f.Fuzz(func(t *testing.T, exported []byte) {
		outputs := map[string]any{}
		if json.Unmarshal(exported, &outputs) != nil {
			return
		}
		root := apitype.ResourceV3{URN: resource.DefaultRootStackURN("s", "p"), Type: resource.RootStackType, Outputs: outputs}
		o := &operation{ctx: t.Context(), words: &words{}}
		out, err := o.results(&apitype.DeploymentV3{Resources: []apitype.ResourceV3{root}})
		if err != nil {
			if errors.Is(err, errFailed) && o.words.String() == "" {
				t.Error("nothing says what is wrong")
			}
			return
		}
		// What is stored is what the next operation begins with.
		state, err := checkpoint{Base: out.Base}.replay(t.Context())
		if err != nil {
			t.Fatalf("what was stored is refused: %v", err)
		}
		again, err := (&operation{ctx: context.Background(), words: &words{}}).results(state)
		if err != nil || again.ConnectionInfo != out.ConnectionInfo || !slices.Equal(again.Flags, out.Flags) {
			t.Errorf("it exports %q %q, and stored and read %q %q: %v", out.ConnectionInfo, out.Flags, again.ConnectionInfo, again.Flags, err)
		}
		// Strings are left as they are, save those that stand for what is not known yet.
		list, _ := outputs["flags"].([]any)
		all := append([]any{outputs["flag"]}, list...)
		if len(out.Flags) > len(all) {
			t.Errorf("of %s these are flags: %q", exported, out.Flags)
		}
		for n, flag := range out.Flags {
			if said, ok := all[n].(string); ok && said != flag && len(out.Flags) == len(all) {
				t.Errorf("flag %d of %s is %q", n, exported, flag)
			}
		}
		if said, ok := outputs["connection_info"].(string); ok && out.ConnectionInfo != "" && out.ConnectionInfo != said {
			t.Errorf("of %s this is the connection info: %q", exported, out.ConnectionInfo)
		}
	})
}
