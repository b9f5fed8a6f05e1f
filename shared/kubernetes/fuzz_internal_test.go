package kubernetes

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("{}"))
	f.Add([]byte("kinds: [apps/Deployment]\npodSecurity: restricted\ningressHosts: ['*.ctf.example']"))
	f.Add([]byte("namespaces: ['{target}', '{identity}']\nallowExternalIPs: yes"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("it is taken, and wrong: %v", err)
		}
		if p.PodSecurity == "" || p.Kinds == nil || p.Namespaces == nil || p.IngressHosts == nil {
			t.Errorf("what is not said is not what is safe: %+v", p)
		}
	})
}

func FuzzParseObjects(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: PodList\nitems: []"))
	f.Add([]byte("{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: [7]}]}"))
	f.Add([]byte("metadata: 7\nkind: [a]\nitems: {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := parseObjects(text)
		if err != nil {
			return
		}
		flat, err := flatten(objects)
		if err != nil {
			return
		}
		for _, o := range flat {
			if o.GetAPIVersion() == "" || o.GetKind() == "" || o.GetName() == "" {
				t.Errorf("this is an object: %v", o.Object)
			}
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add("kubernetes:apps/v1:Deployment")
	f.Add("kubernetes:core/v1:Pod")
	f.Add("kubernetes:v1:Pod")
	f.Add("kubernetes:a/b/v1:C")
	f.Fuzz(func(t *testing.T, token string) {
		kind, err := parseToken(tokens.Type(token))
		if err == nil && (kind.Kind == "" || !isVersion(kind.Version) || strings.Contains(kind.Kind, ":")) {
			t.Errorf("%q is %+v", token, kind)
		}
	})
}
