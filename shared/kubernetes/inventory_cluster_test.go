//go:build cluster

package kubernetes_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

func instances(t *testing.T, p *kubernetes.Provider) []ctf.InstanceKey {
	t.Helper()
	holdings, err := ctf.Collect(p.Instances(t.Context()))
	ok(t, err)
	var keys []ctf.InstanceKey
	for _, h := range holdings {
		if age := time.Since(h.Since); age < -time.Minute || age > 10*time.Minute {
			t.Errorf("%s is there since %v", h.Key.Identity, h.Since)
		}
		keys = append(keys, h.Key)
	}
	return keys
}

// What an instance has is found by the installation that made it, and by no
// other; the other neither changes nor deletes it.
func TestInstallations(t *testing.T) {
	t.Parallel()
	name := random()
	b := newBench(t, func(o *kubernetes.Options) { o.Installation = name })
	b.create("core/v1:ConfigMap", "a", "metadata: {name: a}\ndata: {a: one}")
	b.create("core/v1:Namespace", "own", "metadata: {name: "+b.identity+"}")
	want := []ctf.InstanceKey{{
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "web/one"}, Identity: ctf.Identity(b.identity),
	}}
	if diff := cmp.Diff(want, instances(t, b.provider)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	mine := b.provider
	b.options.Installation = random()
	b.provider = b.newProvider()
	if got := instances(t, b.provider); len(got) > 0 {
		t.Errorf("another installation sees %v", got)
	}
	if _, err := b.tryCreate("core/v1:ConfigMap", "a", "metadata: {name: a}\ndata: {a: two}"); err == nil {
		t.Error("another installation changes it")
	}
	ok(t, b.provider.Sweep(t.Context(), ctf.Identity(b.identity)))
	if b.get("configmaps", "a") == nil || b.get("configmaps", "mayfly-"+b.identity) == nil {
		t.Error("another installation sweeps it")
	}
	ok(t, b.provider.Close())
	b.provider = mine
	ok(t, b.provider.Sweep(t.Context(), ctf.Identity(b.identity)))
	if got := instances(t, b.provider); len(got) > 0 {
		t.Errorf("swept, and there: %v", got)
	}
}

// With rights in its namespace alone, an installation finds what it has there.
func TestInstancesWithFewRights(t *testing.T) {
	t.Parallel()
	name := random()
	b := newBench(t, func(o *kubernetes.Options) { o.Installation = name })
	for plural, object := range map[string]map[string]any{
		"roles": {"kind": "Role", "rules": []any{map[string]any{
			"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"*"},
		}}},
		"rolebindings": {
			"kind":     "RoleBinding",
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "few"},
			"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "few-" + name}},
		},
	} {
		object["apiVersion"], object["metadata"] = "rbac.authorization.k8s.io/v1", map[string]any{"name": "few"}
		_, err := b.at(plural, b.namespace).Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
		ok(t, err)
	}
	eventually(t, "the rights count", func() bool {
		review, err := clustertest.New(t).Typed.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: "few-" + name, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: b.namespace, Verb: "get", Resource: "configmaps",
			}},
		}, metav1.CreateOptions{})
		ok(t, err)
		return review.Status.Allowed
	})
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	ok(t, err)
	for _, user := range config.AuthInfos {
		user.Impersonate = "few-" + name
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	ok(t, clientcmd.WriteToFile(*config, file))
	b.options.Cluster, err = kubernetes.Connect(file)
	ok(t, err)
	b.provider = b.newProvider()

	b.create("core/v1:ConfigMap", "a", "data: {a: one}")
	if got := instances(t, b.provider); len(got) != 1 || got[0].Identity != ctf.Identity(b.identity) {
		t.Errorf("found %v", got)
	}
	ok(t, b.provider.Sweep(t.Context(), ctf.Identity(b.identity)))
	if got := instances(t, b.provider); len(got) > 0 {
		t.Errorf("left %v", got)
	}
}
