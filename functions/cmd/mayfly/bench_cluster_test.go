//go:build cluster

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// clusterTimeout is that of each challenge: none expires while it is measured.
const clusterTimeout = "21600s"

// onePod is the challenge without code that is measured. It asks for next to
// nothing, so that many fit. Who starts it is told its identity.
const onePod = `name: one-pod
containers:
  web:
    image: %s
    ports: [{port: 8080, expose: ingress}]
    env: {ANSWER: hello}
    requests: {cpu: 1m, memory: 4Mi, ephemeral-storage: 1Mi}
    limits: {cpu: 250m, memory: 64Mi}
connection: ${identity}
`

// A clusterSite is a server whose instances run in a namespace of their own,
// and somebody who watches that namespace.
type clusterSite struct {
	site
	cluster   *clustertest.Cluster
	namespace string
	observer  *observer
	kubectl   kubectl
	image     string
}

// BenchmarkKubernetes measures instances on the cluster against kubectl with
// the very same objects, in turn, and prints where the time goes. It is run
// once, and never fails on speed. The cluster needs room for 100 pods.
func BenchmarkKubernetes(b *testing.B) {
	s := newClusterSite(b)
	turns, counts := 20, []int{50, 100}
	if testing.Short() {
		turns, counts = 4, []int{10}
	}
	one := s.measureOne(turns)
	printOne(os.Stdout, one)
	var crowds []crowd
	for _, count := range counts {
		c := s.measureCrowd(count)
		printCrowd(os.Stdout, c)
		crowds = append(crowds, c)
	}
	printWays(os.Stdout, s.measureWays(turns/2))
	printAims(os.Stdout, clusterAims(one, crowds))
}

func newClusterSite(b *testing.B) *clusterSite {
	c := clustertest.New(b)
	s := &clusterSite{cluster: c, namespace: c.Namespace()}
	s.site = site{
		b: b, client: &http.Client{},
		// The ticks are at the bench's command.
		server: newServer(b, "KUBECONFIG="+os.Getenv("KUBECONFIG"), "KUBERNETES=true", "KUBERNETES_TARGET_NAMESPACE="+s.namespace,
			"INSTANCE_HOSTNAME=ctf.example", "LOG_LEVEL=warn", "TICK=24h", "RECONCILE=24h",
			"WORKERS="+os.Getenv("WORKERS")),
	}
	s.server.Start()
	s.observer = observe(b, c, s.namespace)
	s.kubectl = findKubectl(b, s.namespace)
	s.image = clustertest.Image(b, "answer", map[string][]byte{
		"program": clustertest.Program(b, "../../../shared/kubernetes/testdata/program"),
	})
	text := fmt.Sprintf(onePod, s.image)
	s.register("one-pod", pushTo(b, s.server.Registry, "one-pod:1", map[string][]byte{"mayfly.yaml": []byte(text)}), nil)
	return s
}

func (s *clusterSite) register(id, reference string, additional map[string]string) {
	s.server.Must(http.MethodPost, "/challenge", map[string]any{
		"id": id, "scenario": reference, "timeout": clusterTimeout, "additional": additional,
	})
}

// launch makes an instance of the challenge that tells identities, and returns
// when each step of it was seen.
func (s *clusterSite) launch(source string) (identity string, steps timeline, err error) {
	called := time.Now()
	answer, err := s.server.Call(s.b.Context(), http.MethodPost, "/instance", map[string]any{
		"challengeId": "one-pod", "sourceId": source,
	})
	answered := time.Now()
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("create: %d %s", answer.Status, answer.Raw)
	}
	if err != nil {
		return "", timeline{}, err
	}
	identity = answer.ConnectionInfo
	steps, err = s.observer.timeline(identity)
	steps.called, steps.answered = called, answered
	return identity, steps, err
}

func (s *clusterSite) remove(challenge, source string) {
	s.check(s.call(http.MethodDelete, instancePath(challenge, source), nil))
}

// measureOne makes one instance after the other: by Mayfly, and by kubectl with
// the same objects, in turn.
func (s *clusterSite) measureOne(turns int) (result comparedOne) {
	for n := range turns + 1 {
		identity, ours, err := s.launch("one")
		s.check(err)
		twin := s.twins(identity, 1)
		s.remove("one-pod", "one")
		theirs := s.kubectl.launch(s, twin)
		s.kubectl.remove(s, twin)
		if n > 0 { // the first of each is to warm up
			result.mayfly = append(result.mayfly, ours)
			result.kubectl = append(result.kubectl, theirs[0])
		}
	}
	return result
}

// A crowd is many instances at once.
type crowd struct {
	count           int
	mayfly, kubectl []timeline
	peak, workers   int // bytes of memory
	running         int // workers
	busy            [2]usage
}

// measureCrowd makes many instances at once: by Mayfly, and by kubectl with the
// same objects.
func (s *clusterSite) measureCrowd(count int) crowd {
	c := crowd{count: count, mayfly: make([]timeline, count)}
	identities := make([]string, count)
	source := func(n int) string { return fmt.Sprintf("crowd-%d-%d", count, n) }
	s.resetPeaks()
	before, workers := s.usage(), s.countWorkers()
	launch := measurement{callers: count, do: func(n int) (err error) {
		identities[n], c.mayfly[n], err = s.launch(source(n))
		return err
	}}
	_, err := launch.run(0, count)
	s.check(err)
	c.busy[0] = s.usage().since(before)
	c.peak = memory(s.server.cmd.Process.Pid, "VmHWM")
	c.workers, c.running = workers()
	twins := s.twins(identities[0], count)
	_, err = measurement{callers: count, do: func(n int) error {
		return s.call(http.MethodDelete, instancePath("one-pod", source(n)), nil)
	}}.run(0, count)
	s.check(err)

	before = s.usage()
	c.kubectl = s.kubectl.launch(s, twins)
	c.busy[1] = s.usage().since(before)
	s.kubectl.remove(s, twins)
	return c
}

// A way is one kind of scenario.
type way struct {
	name            string
	preview, create []time.Duration
}

// sameAsProgram is the manifest of what the example is that has a program.
const sameAsProgram = `name: web
secret: 0123456789abcdef0123456789abcdef
flags:
  flag: {random: 32, format: "MAYFLY{%%s}"}
containers:
  one:
    image: %s
    ports: [{port: 8080, expose: ingress}]
    env: {FLAG: "${flag}"}
connection: ${url}
`

// measureWays tries and makes instances of the same containers, described by a
// program and by a manifest, in turn. A challenge is tried when it is created.
func (s *clusterSite) measureWays(turns int) []way {
	const example = "../../../shared/sdk/examples/web"
	project, err := os.ReadFile(filepath.Join(example, "Pulumi.yaml"))
	s.check(err)
	references := []string{
		pushTo(s.b, s.server.Registry, "program:1", map[string][]byte{"Pulumi.yaml": project, "scenario": clustertest.Program(s.b, example)}),
		pushTo(s.b, s.server.Registry, "manifest:1", map[string][]byte{"mayfly.yaml": fmt.Appendf(nil, sameAsProgram, s.image)}),
	}
	additional := []map[string]string{{"image": s.image, "secret": "0123456789abcdef0123456789abcdef"}, nil}
	ways := []way{{name: "program"}, {name: "manifest"}}
	for n := range turns + 1 {
		for i := range ways {
			challenge := fmt.Sprintf("%s-%d", ways[i].name, n)
			began := time.Now()
			s.register(challenge, references[i], additional[i])
			tried := time.Since(began)
			began = time.Now()
			s.check(s.create(challenge, "one"))
			created := time.Since(began)
			s.remove(challenge, "one")
			if n > 0 { // the first of each is to warm up
				ways[i].preview = append(ways[i].preview, tried)
				ways[i].create = append(ways[i].create, created)
			}
		}
	}
	return ways
}
