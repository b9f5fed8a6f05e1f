//go:build cluster

package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// openObjects describes the objects that additional has as YAML, in the order of
// their keys, which are the names of the resources; those after a Namespace
// depend on it.
func openObjects(string) (engine.Describe, error) {
	return func(ctx *pulumi.Context, _, _ string) error {
		objects := map[string]string{}
		if err := config.New(ctx, "").TryObject("additional", &objects); err != nil {
			return err
		}
		var spaces []pulumi.Resource
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			text := objects[name]
			var fields map[string]any
			if err := yaml.UnmarshalStrict([]byte(text), &fields); err != nil {
				return err
			}
			version := fmt.Sprint(fields["apiVersion"])
			if !strings.Contains(version, "/") {
				version = "core/" + version
			}
			var made pulumi.CustomResourceState
			token := "kubernetes:" + version + ":" + fmt.Sprint(fields["kind"])
			if err := ctx.RegisterResource(token, name, pulumi.ToMap(fields), &made, pulumi.DependsOn(spaces)); err != nil {
				return err
			}
			if fields["kind"] == "Namespace" {
				spaces = append(spaces, &made)
			}
		}
		ctx.Export("connection_info", pulumi.String("none"))
		return nil
	}, nil
}

// A game is one instance that goes through a failure.
type game struct {
	*bench
	engine  *engine.Engine
	ledger  *engine.Ledger
	program ctf.Program
}

func newGame(t *testing.T, kubeconfig string) *game {
	t.Helper()
	g := &game{bench: newBench(t), ledger: newLedger()}
	g.engine = newEngine(t, "objects", g.namespace, kubeconfig)
	g.program.Instance = ctf.InstanceKey{
		Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "fragile"}, Identity: ctf.Identity(g.identity),
	}
	return g
}

// up deploys what the objects describe.
func (g *game) up(objects map[string]string) error {
	g.program.Additional = objects
	result, err := g.engine.Up(g.t.Context(), g.program, g.ledger.Checkpoint(), g.ledger)
	if err != nil {
		return err
	}
	return g.ledger.Rebase(g.t.Context(), result.Base)
}

// wantFailure deploys and wants that to fail as a user reads it.
func (g *game) wantFailure(objects map[string]string, says ...string) {
	g.t.Helper()
	began := time.Now()
	err := g.up(objects)
	failure, isFailure := errors.AsType[*ctf.Error](err)
	if !isFailure || failure.Reason != ctf.ReasonDeploymentFailed {
		g.t.Fatalf("want a failed deployment, got %v", err)
	}
	g.t.Logf("after %v: %s", time.Since(began), failure.Detail)
	contains(g.t, failure.Detail, says...)
}

// wantRepaired deploys, and wants the deployment to work as described.
func (g *game) wantRepaired(namespace string, objects map[string]string) {
	g.t.Helper()
	began := time.Now()
	ok(g.t, g.up(objects))
	g.t.Logf("repaired in %v", time.Since(began))
	live, err := g.at("deployments", namespace).Get(g.t.Context(), "web", metav1.GetOptions{})
	ok(g.t, err)
	if ready, _, _ := unstructured.NestedInt64(live.Object, "status", "readyReplicas"); ready != 1 {
		g.t.Errorf("%d pods are ready", ready)
	}
	if label, _, _ := unstructured.NestedString(live.Object, "spec", "template", "metadata", "labels", "app"); label != "web" {
		g.t.Errorf("the label of its pods is %q", label)
	}
}

// end destroys the instance, and wants nothing to be left.
func (g *game) end() {
	g.t.Helper()
	ok(g.t, g.engine.Down(g.t.Context(), g.program.Instance, g.ledger.Checkpoint(), g.ledger))
	nothingLeft(g.t, g.program.Instance.Identity)
}

// objects are a Deployment and a ConfigMap.
func objects(image, args string) map[string]string {
	return map[string]string{
		"web":      "apiVersion: apps/v1\nkind: Deployment" + deployment(image, args),
		"settings": "apiVersion: v1\nkind: ConfigMap\ndata: {a: one}",
	}
}

// What others do to an instance is mended by the next update, and it is
// destroyed completely, mended or not.
func TestMended(t *testing.T) {
	t.Parallel()
	program := image(t)
	stop := metav1.DeleteOptions{}
	cases := map[string]func(g *game, namespace string) error{
		"deployment deleted": func(g *game, namespace string) error {
			return g.at("deployments", namespace).Delete(g.t.Context(), "web", stop)
		},
		"owner deleted": func(g *game, namespace string) error {
			return g.at("configmaps", namespace).Delete(g.t.Context(), "mayfly-"+g.identity, stop)
		},
		"namespace deleted": func(g *game, namespace string) error {
			return g.at("namespaces", "").Delete(g.t.Context(), namespace, stop)
		},
		"changed by hand": func(g *game, namespace string) error {
			patch := []byte(`{"spec":{"replicas":0,"template":{"spec":{"containers":[{"name":"main","image":"nowhere"}]}}}}`)
			_, err := g.at("deployments", namespace).Patch(g.t.Context(), "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
	for name, harm := range cases {
		for _, mend := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, mended %v", name, mend), func(t *testing.T) {
				t.Parallel()
				g := newGame(t, os.Getenv("KUBECONFIG"))
				described := objects(program, "args: [serve]")
				described["web"] = strings.Replace(described["web"], "{name: web}", "{name: web, namespace: "+g.identity+"}", 1)
				described["web"] = strings.Replace(described["web"], "spec:\n", "spec:\n  replicas: 1\n", 1)
				space := map[string]string{"a-space": "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + g.identity + "}"}
				ok(t, g.up(space))
				maps.Copy(described, space)
				ok(t, g.up(described))
				ok(t, harm(g, g.identity))
				if mend {
					g.wantRepaired(g.identity, described)
				}
				g.end()
			})
		}
	}
}

// What can't work fails with a reason that a person understands, is mended by
// an update that can, and destroyed completely either way.
func TestBroken(t *testing.T) {
	t.Parallel()
	program, nowhere := image(t), clustertest.Registry(t)+"/nowhere:1"
	good := objects(program, "")
	invalid := objects(program, "")
	invalid["settings"] = "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 99999}]}"
	unknown := objects(program, "prots: []")
	cases := map[string]struct {
		bad  map[string]string
		says []string
	}{
		"image":          {objects(nowhere, ""), []string{"kubernetes:apps/v1:Deployment web", nowhere, "can't be pulled", "not found"}},
		"invalid object": {invalid, []string{"kubernetes:core/v1:Service settings", "was refused", "spec.ports[0].port", "99999"}},
		"unknown field":  {unknown, []string{"kubernetes:apps/v1:Deployment web", "prots"}},
	}
	for name, c := range cases {
		for _, mend := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, mended %v", name, mend), func(t *testing.T) {
				t.Parallel()
				g := newGame(t, os.Getenv("KUBECONFIG"))
				g.wantFailure(c.bad, c.says...)
				if mend {
					g.wantRepaired(g.namespace, good)
				}
				g.end()
			})
		}
	}
}

func TestFullQuota(t *testing.T) {
	t.Parallel()
	g := newGame(t, os.Getenv("KUBECONFIG"))
	quota := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "full"},
		"spec": map[string]any{"hard": map[string]any{"pods": "0"}},
	}}
	_, err := g.at("resourcequotas", g.namespace).Create(t.Context(), quota, metav1.CreateOptions{})
	ok(t, err)
	eventually(t, "the quota counts", func() bool {
		hard, _, _ := unstructured.NestedMap(g.get("resourcequotas", "full").Object, "status", "hard")
		return len(hard) == 1
	})
	described := objects(image(t), "")
	g.wantFailure(described, "Deployment "+g.namespace+"/web", "its pods are refused", "exceeded quota: full")
	ok(t, g.at("resourcequotas", g.namespace).Delete(t.Context(), "full", metav1.DeleteOptions{}))
	g.wantRepaired(g.namespace, described)
	g.end()
}

// The API server is away for 20 seconds while a deployment is waited for: the
// deployment takes longer, and nothing else happens.
func TestOutage(t *testing.T) {
	t.Parallel()
	p := clustertest.NewProxy(t, os.Getenv("KUBECONFIG"))
	g := newGame(t, p.Kubeconfig)
	described := objects(image(t), "readinessProbe: {httpGet: {port: 8080}, initialDelaySeconds: 4, periodSeconds: 1}")
	done := make(chan error, 1)
	go func() { done <- g.up(described) }()
	eventually(t, "the deployment is made", func() bool { return g.get("deployments", "web") != nil })
	const outage = 20 * time.Second
	cut := time.Now()
	ok(t, p.Cut())
	back, cancel := context.WithTimeout(t.Context(), outage)
	defer cancel()
	select {
	case err := <-done:
		t.Fatalf("it ended within the outage: %v", err)
	case <-back.Done():
	}
	ok(t, p.Mend())
	ok(t, <-done)
	t.Logf("done %v after the API server was back", time.Since(cut)-outage)
	g.wantRepaired(g.namespace, described)
	g.end()
}
