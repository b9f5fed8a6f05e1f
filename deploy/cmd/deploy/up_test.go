package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const config = "../../../config"

// run runs the command as a user would who has set nothing.
func run(t *testing.T, args ...string) error {
	t.Helper()
	forget(t)
	var out bytes.Buffer
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	t.Log(out.String())
	return err
}

const kubeconfig = `{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`

// What can't be is refused before anything is built.
func TestUpRefusesFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	check(t, os.WriteFile(file, []byte(kubeconfig), 0o600))
	t.Setenv("KUBECONFIG", file)
	for name, c := range map[string]struct {
		token string
		args  []string
		want  string
	}{
		"a token of a space":  {" ", []string{"--registry", "r.example/m", "--public"}, "token"},
		"a setting":           {"", []string{"--registry", "r.example/m", "--set", "WORKERS=0"}, "WORKERS"},
		"no registry":         {"", nil, "set REGISTRY"},
		"a registry":          {"", []string{"--registry", "My Registry"}, "image api"},
		"a cluster not there": {"", []string{"--registry", "r.example/m"}, "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tokenVariable, c.token)
			dir := filepath.Join(t.TempDir(), "images")
			err := run(t, append([]string{"up", "--config", config, "--build", dir, "--packages", dir, "--mirror", "http://127.0.0.1:1"}, c.args...)...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q is not in: %v", c.want, err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it was begun to build: %v", err)
			}
		})
	}
}
