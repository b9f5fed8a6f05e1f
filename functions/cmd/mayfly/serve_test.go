package main_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// TestServe has every verb in one function, which others wake: it keeps pools
// filled by its own events, or by those that a broker hands back to it.
func TestServe(t *testing.T) {
	handler, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	images := httptest.NewServer(handler)
	t.Cleanup(images.Close)
	reference := pushTo(t, strings.TrimPrefix(images.URL, "http://"), "bare:1", bareFiles(t))
	for name, broker := range map[string]*sink{"alone": nil, "with a broker": newSink(t)} {
		t.Run(name, func(t *testing.T) {
			env := []string{"ADDRESS=127.0.0.1", "REDIS_URL=" + redistest.Start(t), "MAYFLY_KEYS=" + redis.NewKey(), "OCI_INSECURE=true"}
			if broker != nil {
				env = append(env, "K_SINK="+broker.URL)
			}
			s := newServer(t, env...)
			s.command = "serve"
			s.Start()
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference, "min": 1, "timeout": "1s"})
			eventually(t, "somebody is told of the challenge", func() error {
				if broker == nil && !strings.Contains(s.log.String(), `"path":"/fill-pool"`) || broker != nil && len(broker.of("1")) == 0 {
					return errors.New("nobody is")
				}
				return nil
			})
			if broker != nil && strings.Contains(s.log.String(), `"path":"/fill-pool"`) {
				t.Error("it told itself, too")
			}
			s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"})
			s.Tick("/reconcile")
			eventually(t, "the instance expires", func() error {
				s.Tick("/expire")
				if answer := s.try(t, http.MethodGet, "/instance/1/2", nil); answer.Status != http.StatusNotFound {
					return errors.New(answer.Raw)
				}
				return nil
			})
			s.Must(http.MethodDelete, "/challenge/1", nil)
			s.Stop()
		})
	}
}

// bareFiles are a scenario without resources.
func bareFiles(t *testing.T) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"Pulumi.yaml": []byte("name: bare\nruntime:\n  name: go\n  options:\n    binary: ./main\n"),
		"main":        read(t, build(t, "testdata/bare", "-ldflags=-s -w")),
	}
}

// What a function can't do without is asked for.
func TestServeWithoutRedis(t *testing.T) {
	cmd := exec.Command(build(t, ".", programFlags()...), "serve")
	cmd.Env = []string{"HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "set REDIS_URL") {
		t.Errorf("%v: %s", err, out)
	}
}

// A tick that can't be is refused in words, and by no panic of its clock.
func TestRunWithANegativeTick(t *testing.T) {
	for _, name := range []string{"tick", "reconcile"} {
		cmd := exec.Command(build(t, ".", programFlags()...), "run", "--dir", t.TempDir(), "--"+name, "-1s")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), name+": it is -1s and must not be negative") {
			t.Errorf("%v: %s", err, out)
		}
	}
}
