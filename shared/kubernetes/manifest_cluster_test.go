//go:build cluster

package kubernetes_test

import (
	"context"
	"fmt"
	"io"
	"net"
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
	t.Parallel()
	cluster := clustertest.New(t)
	namespace := cluster.Namespace()
	e := newEngine(t, "worker", namespace, os.Getenv("KUBECONFIG"))
	const secret = "0123456789abcdef0123456789abcdef"
	l, id := newLedger(), ctf.NewIdentity()
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
		result, err := e.Up(t.Context(), p, l.Checkpoint(), l)
		ok(t, err)
		t.Logf("%s in %v: %s", greeting, time.Since(began), result.ConnectionInfo)
		ok(t, l.Rebase(t.Context(), result.Base))
		if got := strings.Join(result.Flags, " "); got != strings.Join(flags, " ") {
			t.Errorf("flags are %s, want %s", got, flags)
		}
		url, port, _ := strings.Cut(result.ConnectionInfo, " ")
		want := fmt.Sprintf("%s %s %s<nil>\n", greeting, flags[0], flags[1])
		clustertest.Eventually(t, time.Minute, "the web container answers", func() error { return answers(t, url, want) })
		want = fmt.Sprintf("${this} is %s at %s\n", id, url)
		at := net.JoinHostPort(cluster.NodeAddress(), port)
		clustertest.Eventually(t, time.Minute, "the TCP container answers", func() error { return tells(at, want) })
	}

	p.Additional["replicas"] = "100"
	_, err = e.Up(t.Context(), p, l.Checkpoint(), l)
	if err == nil || !strings.Contains(err.Error(), `no additional setting "replicas": those that it declares are greeting, image, secret`) {
		t.Errorf("an undeclared setting: %v", err)
	}
	began := time.Now()
	ok(t, e.Down(t.Context(), p.Instance, l.Checkpoint(), l))
	t.Logf("down in %v", time.Since(began))
	cluster.WantNothing(kubernetes.LabelIdentity + "=" + string(id))
}

func answers(t *testing.T, url, want string) error {
	got, err := clustertest.Play(t, url)
	if err == nil && got != want {
		err = fmt.Errorf("got %q, want %q", got, want)
	}
	return err
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
