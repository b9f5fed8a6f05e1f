//go:build cluster

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// drained is how long what was replaced takes to go: Knative turns it off when
// nothing leads to it any more, and its proxy waits half a minute for calls.
const drained = 4 * time.Minute

// testUpgrade replaces all functions by those of another version while all verbs
// are in use, and ten seconds after creates began that take three minutes: these
// end where they began. Then it replaces them by those of a version with records
// of its own.
func testUpgrade(t *testing.T, i *installation) {
	named := i.build(t, "named")
	cheap := pushCheap(t)
	long := i.startLong(t, cheap)
	load := startLoad(t, i, "same", cheap, asItIs)
	<-long.replace.C
	before := i.revisions(t)
	long.follow(t, i.podsOf(t, before))
	i.endPods(t, before, "gateway", "create-instance")
	load.during(t, func() { i.upgrade(t, named) })
	after := i.revisions(t)
	i.wantVersions(t, map[string]string{"": "named"}, i.names(t)...)
	i.upgrade(t, named)
	if again := i.revisions(t); !slices.Equal(again, after) {
		t.Errorf("the same again makes other revisions: %v, then %v", after, again)
	}
	next := i.build(t, "next", newerSchema())
	i.wantDrained(t, before, "gateway", "create-instance")
	load.end(t)
	testSideBySide(t, i, next, cheap)
	long.end(t)
}

// An edit is a change of the code: one text in a file for another.
type edit struct{ file, old, new string }

// A version is two images.
type version struct{ api, engine string }

// build pushes the images of code that differs by edits and calls itself so, as
// up would do it.
func (i *installation) build(t *testing.T, name string, edits ...edit) version {
	t.Helper()
	began := time.Now()
	edits = append(edits, edit{
		"functions/cmd/internal/function/function.go",
		"func Version() string {", "func Version() string {\n\treturn \"" + name + "\"\n}\n\nfunc built() string {",
	})
	dir := t.TempDir()
	tool := filepath.Join(dir, "deploy")
	run(t, root, "go", "build", "-o", tool, "./deploy/cmd/deploy")
	command := exec.CommandContext(t.Context(), tool, append([]string{
		"render", "--registry", clustertest.Registry(t) + "/mayfly-test", "--tag", name,
		"--build", filepath.Join(dir, "programs"), "--out", filepath.Join(dir, "config"),
		"--redis-image", "redis", "--namespace", i.namespace,
	}, settings(i.Cluster)...)...)
	command.Dir = edited(t, edits)
	out, err := command.CombinedOutput()
	t.Logf("%s is built, in %v:\n%s", name, time.Since(began).Round(time.Second), out)
	check(t, err)
	image := func(function string) string {
		text, err := os.ReadFile(filepath.Join(dir, "config", "service-"+function+".yaml"))
		check(t, err)
		var s servingv1.Service
		check(t, yaml.Unmarshal(text, &s))
		return s.Spec.Template.Spec.Containers[0].Image
	}
	return version{image("gateway"), image("create-instance")}
}

// edited copies the code and changes it, and returns where.
func edited(t *testing.T, edits []edit) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"config", "deploy", "functions", "shared"} {
		check(t, os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))))
	}
	for _, file := range []string{"go.work", "go.work.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, file), text, 0o600))
	}
	for _, e := range edits {
		file := filepath.Join(dir, e.file)
		text, err := os.ReadFile(file)
		check(t, err)
		if strings.Count(string(text), e.old) != 1 {
			t.Fatalf("%s does not have %q once", e.file, e.old)
		}
		check(t, os.WriteFile(file, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600))
	}
	return dir
}

// upgrade installs a version over the one that runs.
func (i *installation) upgrade(t *testing.T, v version) {
	t.Helper()
	redis, err := i.Typed.AppsV1().StatefulSets(i.namespace).Get(t.Context(), "redis", metav1.GetOptions{})
	check(t, err)
	i.deploy(t, append([]string{
		"up", "--namespace", i.namespace, "--image", "api=" + v.api, "--image", "engine=" + v.engine,
		"--redis-image", redis.Spec.Template.Spec.Containers[0].Image,
	}, settings(i.Cluster)...)...)
}

// pushCheap pushes the scenario whose instances cost nothing.
func pushCheap(t *testing.T) string {
	t.Helper()
	dir, from := t.TempDir(), filepath.Join("testdata", "scenario")
	project, err := os.ReadFile(filepath.Join(from, "Pulumi.yaml"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), project, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "program"), clustertest.Program(t, from), 0o700))
	registry := clustertest.Registry(t)
	reference := registry + "/mayfly-test/cheap:1"
	_, err = scenario.Push(t.Context(), dir, reference, scenario.Registries{PlainHTTP: []string{registry}})
	check(t, err)
	return reference
}

// functions are the live functions by name.
func (i *installation) functions(t testing.TB) map[string]*servingv1.Service {
	t.Helper()
	list, err := i.services().List(t.Context(), metav1.ListOptions{})
	check(t, err)
	all := map[string]*servingv1.Service{}
	for _, item := range list.Items {
		var s servingv1.Service
		check(t, runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &s))
		all[s.Name] = &s
	}
	return all
}

// revisions are those that the functions lead to, sorted.
func (i *installation) revisions(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, s := range i.functions(t) {
		for _, target := range s.Status.Traffic {
			names = append(names, target.RevisionName)
		}
	}
	slices.Sort(names)
	return names
}

// wantVersions waits until functions say of themselves that they are a version,
// which depends on how their host begins: the ingress may learn late of what is
// ready.
func (i *installation) wantVersions(t testing.TB, versions map[string]string, functions ...string) {
	t.Helper()
	clustertest.Eventually(t, turned, fmt.Sprintf("all are %v", versions), func() error {
		for side, want := range versions {
			for _, name := range functions {
				if got, err := i.version(t.Context(), side+name); err != nil || got != want {
					return fmt.Errorf("%s%s is %q, %w", side, name, got, err)
				}
			}
		}
		return nil
	})
}

func (i *installation) version(ctx context.Context, function string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url(function)+"/healthcheck", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := i.plain.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", errors.New(response.Status)
	}
	var report struct {
		Component struct {
			Version string `json:"version"`
		} `json:"component"`
	}
	err = json.NewDecoder(response.Body).Decode(&report)
	return report.Component.Version, err
}

// podsOf are the pods of revisions.
func (i *installation) podsOf(t testing.TB, revisions []string) []corev1.Pod {
	t.Helper()
	list, err := i.Typed.CoreV1().Pods(i.namespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: serving.RevisionLabelKey + " in (" + strings.Join(revisions, ",") + ")",
	})
	check(t, err)
	return list.Items
}

// endPods tells all pods of functions to end, as when their machine is to be
// emptied: of what was replaced, Knative leaves alone what has work.
func (i *installation) endPods(t testing.TB, revisions []string, functions ...string) {
	t.Helper()
	ended := map[string]bool{}
	for _, pod := range i.podsOf(t, revisions) {
		if name := pod.Labels[nameLabel]; slices.Contains(functions, name) {
			check(t, i.Typed.CoreV1().Pods(i.namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}))
			ended[name] = true
		}
	}
	if len(ended) != len(functions) {
		t.Errorf("only %v work", ended)
	}
}

// wantDrained waits until no pod of revisions is left, but of these functions.
func (i *installation) wantDrained(t testing.TB, revisions []string, but ...string) {
	t.Helper()
	clustertest.Eventually(t, drained, "what was replaced is gone", func() error {
		var left []string
		for _, pod := range i.podsOf(t, revisions) {
			if !slices.Contains(but, pod.Labels[nameLabel]) {
				left = append(left, pod.Name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
}
