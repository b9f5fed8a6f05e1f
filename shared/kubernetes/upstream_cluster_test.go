//go:build cluster

package kubernetes_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// TestMain is a worker when it is told to, as the binary of a real service is.
func TestMain(m *testing.M) {
	opens := map[string]engine.Open{"worker": openManifest, "objects": openObjects}
	if len(os.Args) == 3 && opens[os.Args[1]] != nil {
		cluster, err := kubernetes.Connect("")
		if err != nil {
			panic(err)
		}
		options := kubernetes.Options{Cluster: cluster, Namespace: os.Args[2], ReadyTimeout: time.Minute}
		os.Exit(engine.Work(context.Background(), engine.Providers{
			kubernetes.Package: func() (plugin.Provider, error) { return kubernetes.NewProvider(options) },
		}, opens[os.Args[1]]))
	}
	os.Exit(m.Run())
}

// A ledger is a journal in memory.
type ledger struct {
	mu   sync.Mutex
	held ctf.Checkpoint
}

func (l *ledger) Append(_ context.Context, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.Journal = append(l.held.Journal, append([]byte{}, entry...))
	return nil
}

func (l *ledger) Rebase(_ context.Context, base []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = ctf.Checkpoint{Base: base}
	return nil
}

func (l *ledger) Deadline() time.Time { return time.Now().Add(time.Hour) }

// A stage is an engine over a namespace of the cluster, and the scenarios
// compiled with chall-manager's SDK under two project names.
type stage struct {
	*engine.Engine
	one, two ctf.Scenario
}

func newStage(t *testing.T, namespace string) *stage {
	t.Helper()
	dir := t.TempDir()
	handler, err := registry.New(t.Context(), filepath.Join(dir, "registry"))
	ok(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	how := scenario.Registries{Insecure: true, Credentials: scenario.Credentials{DockerConfig: filepath.Join(dir, "none.json")}}
	library, err := scenario.New(scenario.Options{CacheDir: filepath.Join(dir, "cache"), Registries: how})
	ok(t, err)
	t.Cleanup(library.Close)
	binary := filepath.Join(dir, "main")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = "testdata/upstream"
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	ok(t, err)
	push := func(project string) ctf.Scenario {
		from := filepath.Join(dir, project)
		ok(t, os.Mkdir(from, 0o700))
		ok(t, os.WriteFile(filepath.Join(from, "Pulumi.yaml"),
			[]byte("name: "+project+"\nruntime:\n  name: go\n  options:\n    binary: ./main\n"), 0o600))
		ok(t, os.WriteFile(filepath.Join(from, "main"), program, 0o700))
		pushed, err := scenario.Push(t.Context(), from, strings.TrimPrefix(server.URL, "http://")+"/"+project+":1", how)
		ok(t, err)
		return pushed
	}
	self, err := os.Executable()
	ok(t, err)
	e, err := engine.New(t.Context(), engine.Options{
		Source: library, WorkerCommand: []string{self, "worker", namespace}, Workers: 2, TargetNamespace: namespace,
		WorkerEnv: []string{"KUBECONFIG=" + os.Getenv("KUBECONFIG")}, ScenarioMemory: 1 << 30,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, e.Close()) })
	return &stage{e, push("one"), push("two")}
}

// Programs that were written for chall-manager run unchanged: each is deployed
// and played, updated in place, made anew under another project's name, and
// leaves nothing.
func TestUpstreamScenarios(t *testing.T) {
	b := newBench(t)
	program := image(t)
	s := newStage(t, b.namespace)
	door := findDoor(t)
	for _, kind := range []string{"plain", "nodeport", "ingress", "multipod", "kompose", "group"} {
		t.Run(kind, func(t *testing.T) {
			l := &ledger{}
			p := ctf.Program{Scenario: s.one, Additional: map[string]string{
				"kind": kind, "image": program, "answer": "one", "host": clustertest.New(t).NodeAddress(),
				"domain": "games.example", "ingressNamespace": door.namespace, "ingressLabels": door.labels,
			}}
			p.Instance = ctf.InstanceKey{
				Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "web/one"}, Identity: ctf.NewIdentity(),
			}
			ok(t, s.Preview(t.Context(), p))
			up := func(want string) {
				t.Helper()
				began := time.Now()
				result, err := s.Up(t.Context(), p, l.held, l)
				ok(t, err)
				took := time.Since(began)
				ok(t, l.Rebase(t.Context(), result.Base))
				eventually(t, result.ConnectionInfo+" answers "+want, func() bool { return door.play(result.ConnectionInfo) == want })
				t.Logf("up in %v: %s", took, result.ConnectionInfo)
			}
			answers := []string{"one", "two"}
			if kind == "multipod" {
				result := "ask emp-svc-" + string(p.Instance.Identity) + "-back-8080-tcp"
				answers = []string{result, result}
			}
			up(answers[0])
			labelled(t, b, p.Instance)
			up(answers[0]) // nothing changes
			p.Additional["answer"] = "two"
			up(answers[1])
			p.Scenario = s.two
			up(answers[1])
			began := time.Now()
			ok(t, s.Down(t.Context(), p.Instance, l.held, l))
			t.Logf("down in %v", time.Since(began))
			nothingLeft(t, p.Instance.Identity)
		})
	}
}

// labelled fails unless the instance's services say whose they are.
func labelled(t *testing.T, b *bench, key ctf.InstanceKey) {
	t.Helper()
	list, err := b.at("services", "").List(t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelIdentity + "=" + string(key.Identity)})
	ok(t, err)
	if len(list.Items) == 0 {
		t.Error("no service has the label of the instance")
	}
	for _, o := range list.Items {
		if o.GetLabels()[kubernetes.LabelTenant] != "default" || o.GetAnnotations()["mayfly.dev/challenge"] != "web/one" {
			t.Errorf("%s has labels %v, annotations %v", o.GetName(), o.GetLabels(), o.GetAnnotations())
		}
	}
}
