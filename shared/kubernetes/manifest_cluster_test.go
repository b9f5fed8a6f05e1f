//go:build cluster

package kubernetes_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
	"github.com/mayfly-ctf/mayfly/shared/sdk"
	"github.com/mayfly-ctf/mayfly/shared/sdk/manifest"
)

// openManifest describes what a manifest says, on the cluster of the tests.
func openManifest(dir string) (engine.Describe, error) {
	m, err := manifest.Load(dir)
	if err != nil {
		return nil, err
	}
	return m.Factory(manifest.Platform{Hostname: "ctf.example"}).Describe, nil
}

// A folder is a source of the one scenario in a directory.
type folder string

func (f folder) Open(ctx context.Context, _ ctf.Scenario) (*scenario.Content, error) {
	return scenario.OpenDirectory(ctx, string(f))
}

// A challenge of three containers without code: deployed, played, changed by
// what it lets be changed and nothing else, and gone.
func TestManifest(t *testing.T) {
	cluster := clustertest.New(t)
	namespace := cluster.Namespace()
	self, err := os.Executable()
	ok(t, err)
	e, err := engine.New(t.Context(), engine.Options{
		Source: folder("testdata/manifest"), WorkerCommand: []string{self, "worker", namespace}, Workers: 1,
		WorkerEnv: []string{"KUBECONFIG=" + os.Getenv("KUBECONFIG")}, TargetNamespace: namespace,
	})
	ok(t, err)
	t.Cleanup(func() { ok(t, e.Close()) })
	const secret = "0123456789abcdef0123456789abcdef"
	l, id := &ledger{}, ctf.NewIdentity()
	p := ctf.Program{Additional: map[string]string{
		"secret": secret,
		"image":  clustertest.Image(t, "manifest", map[string][]byte{"program": clustertest.Program(t, "testdata/manifest")}),
	}}
	p.Instance = ctf.InstanceKey{Challenge: ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "shop"}, Identity: id}
	digits, err := sdk.Derive(secret, string(id), "web")
	ok(t, err)
	flags := []string{"CTF{" + digits[:16] + "}", "CTF{" + sdk.Variate(string(id), "open_sesame") + "}"}

	ok(t, e.Preview(t.Context(), p))
	for _, greeting := range []string{"hello", "welcome"} {
		p.Additional["greeting"] = greeting
		began := time.Now()
		result, err := e.Up(t.Context(), p, l.held, l)
		ok(t, err)
		t.Logf("%s in %v: %s", greeting, time.Since(began), result.ConnectionInfo)
		ok(t, l.Rebase(t.Context(), result.Base))
		if got := strings.Join(result.Flags, " "); got != strings.Join(flags, " ") {
			t.Errorf("flags are %s, want %s", got, flags)
		}
		url, port, _ := strings.Cut(result.ConnectionInfo, " ")
		host := strings.TrimPrefix(url, "http://")
		want := fmt.Sprintf("%s %s %s<nil>\n", greeting, flags[0], flags[1])
		clustertest.Eventually(t, time.Minute, "the web container answers", func() error { return answers(host, want) })
		want = fmt.Sprintf("${this} is %s at %s\n", id, url)
		at := net.JoinHostPort(cluster.NodeAddress(), port)
		clustertest.Eventually(t, time.Minute, "the TCP container answers", func() error { return tells(at, want) })
	}

	p.Additional["replicas"] = "100"
	_, err = e.Up(t.Context(), p, l.held, l)
	if err == nil || !strings.Contains(err.Error(), `no additional setting "replicas": those that it declares are greeting, image, secret`) {
		t.Errorf("an undeclared setting: %v", err)
	}
	began := time.Now()
	ok(t, e.Down(t.Context(), p.Instance, l.held, l))
	t.Logf("down in %v", time.Since(began))
	cluster.WantNothing(kubernetes.LabelIdentity + "=" + string(id))
}

// answers tells whether the Ingress of a host does.
func answers(host, want string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+os.Getenv("INGRESS"), nil)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if string(body) != want {
		return fmt.Errorf("got %q, want %q: %w", body, want, err)
	}
	return nil
}

func tells(address, want string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	said, err := io.ReadAll(c)
	if string(said) != want {
		return fmt.Errorf("got %q, want %q: %w", said, want, err)
	}
	return nil
}
