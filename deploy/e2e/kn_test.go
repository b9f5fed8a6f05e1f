//go:build cluster

package e2e_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testKn runs the commands of the README: functions, ticks and triggers are
// listed, made anew, changed and removed with kn.
func testKn(t *testing.T, i *installation) {
	dir := t.TempDir()
	image := func(function string) string { return i.service(t, function).Spec.Template.Spec.Containers[0].Image }
	deploy(t, append([]string{
		"render", "--namespace", i.namespace, "--out", dir,
		"--image", "api=" + image("renew-instance"), "--image", "engine=" + image("expire"), "--redis-image", "redis",
	}, settings(i.Cluster)...)...)
	kn := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "kn", append(args, "--namespace", i.namespace)...).CombinedOutput()
		t.Logf("kn %s\n%s", strings.Join(args, " "), out)
		check(t, err)
		return string(out)
	}
	kn("service", "delete", "renew-instance", "--wait")
	kn("service", "apply", "renew-instance", "--filename", filepath.Join(dir, "service-renew-instance.yaml"))
	kn("service", "update", "renew-instance", "--scale-max", "2")
	if list := kn("service", "list"); strings.Count(list, "True") != functions {
		t.Errorf("not all functions are ready")
	}
	kn("source", "ping", "delete", "reconcile")
	kn("source", "ping", "create", "reconcile", "--schedule", "*/15 * * * *", "--data", "{}", "--sink", "ksvc:reconcile")
	kn("source", "ping", "list")
	kn("trigger", "delete", "fill-pool")
	kn("trigger", "create", "fill-pool", "--broker", "mayfly", "--filter", "type=dev.mayfly.instance.claimed", "--sink", "ksvc:fill-pool")
	kn("trigger", "list")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url("reconcile"), strings.NewReader("{}"))
	check(t, err)
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Type": "dev.knative.sources.ping", "Ce-Source": "/e2e", "Ce-Id": "1", "Content-Type": "application/json",
	} {
		request.Header.Set(name, value)
	}
	response, err := i.plain.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode/100 != 2 {
		t.Errorf("reconcile answers %s", response.Status)
	}
	response, err = i.plain.Get(i.url("renew-instance") + "/healthcheck")
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode != http.StatusOK {
		t.Errorf("renew-instance answers %s", response.Status)
	}
}
