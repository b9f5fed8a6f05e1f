package kubernetes

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestCloseMetadata(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ given, want string }{
		"the Internet":        {"{cidr: 0.0.0.0/0}", "{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}"},
		"but private ranges":  {"{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}", "{cidr: 0.0.0.0/0, except: [10.0.0.0/8, 169.254.0.0/16]}"},
		"closed already":      {"{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}", "{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}"},
		"closed by a larger":  {"{cidr: 0.0.0.0/0, except: [168.0.0.0/6]}", "{cidr: 0.0.0.0/0, except: [168.0.0.0/6]}"},
		"only a part closed":  {"{cidr: 0.0.0.0/0, except: [169.254.0.0/17]}", "{cidr: 0.0.0.0/0, except: [169.254.0.0/17, 169.254.0.0/16]}"},
		"a range beside it":   {"{cidr: 192.0.2.0/24}", "{cidr: 192.0.2.0/24}"},
		"version 6":           {"{cidr: '::/0'}", "{cidr: '::/0', except: ['fe80::/10', 'fd00:ec2::254/128']}"},
		"no range":            {"{cidr: everywhere}", "{cidr: everywhere}"},
		"nothing of the sort": {"7", "7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := func(block string) map[string]any {
				var fields map[string]any
				text := "spec: {egress: [{to: [{podSelector: {}}]}, {}, {to: [{ipBlock: " + block + "}]}]}"
				if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
					t.Fatal(err)
				}
				return fields
			}
			got := policy(c.given)
			closeMetadata(&unstructured.Unstructured{Object: got})
			if diff := cmp.Diff(policy(c.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
