//go:build cluster

package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// TestClusterExamples has two teams deploy each of the challenges without code
// and solve it; each gets a flag of its own, and nothing is left.
func TestClusterExamples(t *testing.T) {
	t.Parallel()
	c := clustertest.New(t)
	controller := c.IngressController()
	s := newClusterServer(t, c, "INSTANCE_HOSTNAME=games.example", "INGRESS_NAMESPACE="+controller.Namespace)
	s.Start()
	for name, solve := range map[string]func(*testing.T, string) (string, error){
		"notes": solveNotes, "vault": solveVault, "shop": solveShop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": name, "scenario": pushExample(t, s, name)})
			flags := map[string]bool{}
			for _, team := range []string{"1", "2"} {
				began := time.Now()
				s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": name, "sourceId": team})
				t.Logf("created in %v", time.Since(began))
				instance := s.Must(http.MethodGet, "/instance/"+name+"/"+team, nil)
				var flag string
				clustertest.Eventually(t, 30*time.Second, name+" is solved", func() (err error) {
					flag, err = solve(t, instance.ConnectionInfo)
					return err
				})
				if !strings.Contains(instance.Raw, flag) {
					t.Errorf("team %s found %q, the platform checks %s", team, flag, instance.Raw)
				}
				flags[flag] = true
			}
			if len(flags) != 2 {
				t.Errorf("two teams have the flags %v", flags)
			}
			s.Must(http.MethodDelete, "/challenge/"+name, nil)
			c.WantNothing(kubernetes.LabelChallenge + "=" + name)
		})
	}
}

// pushExample builds the image of an example, and pushes its manifest with the
// image's name in it.
func pushExample(t *testing.T, s *server, name string) string {
	t.Helper()
	image := clustertest.Image(t, name, map[string][]byte{"program": clustertest.Program(t, filepath.Join(examples, name, "image"))})
	text, err := os.ReadFile(filepath.Join(examples, name, "scenario", "mayfly.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), "registry.example/ctf/"+name+":1", image)
	return pushTo(t, s.Registry, name+":1", map[string][]byte{"mayfly.yaml": []byte(changed)})
}

func findFlag(text string) (string, error) {
	if flag := regexp.MustCompile(`CTF\{[0-9a-f]{32}\}`).FindString(text); flag != "" {
		return flag, nil
	}
	return "", errors.New("no flag in " + text)
}

// solveNotes asks for the note that the list does not show.
func solveNotes(t *testing.T, at string) (string, error) {
	page, err := clustertest.Play(t, at+"/note?id=0")
	if err != nil {
		return "", err
	}
	return findFlag(page)
}

// solveShop has the service ask the database for more than a price.
func solveShop(t *testing.T, at string) (string, error) {
	page, err := clustertest.Play(t, at+"/?name="+url.QueryEscape("tea\nGET secret:flag"))
	if err != nil {
		return "", err
	}
	return findFlag(page)
}

// solveVault calculates. The name of the nodes is in no DNS.
func solveVault(t *testing.T, at string) (string, error) {
	var port string
	if _, err := fmt.Sscanf(at, "nc games.example %s", &port); err != nil {
		return "", fmt.Errorf("players are told %q: %w", at, err)
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(clustertest.New(t).NodeAddress(), port), time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	lines := bufio.NewReader(conn)
	for {
		question, err := lines.ReadString(' ')
		if err != nil {
			return "", err
		}
		if !regexp.MustCompile(`^\d+ $`).MatchString(question) { // The vault is open: …
			rest, err := lines.ReadString('\n')
			if err != nil {
				return "", err
			}
			return findFlag(rest)
		}
		var a, b int
		if _, err := fmt.Sscanf(question, "%d", &a); err != nil {
			return "", err
		}
		if _, err := fmt.Fscanf(lines, "* %d =", &b); err != nil {
			return "", err
		}
		if _, err := lines.Discard(1); err != nil {
			return "", err
		}
		fmt.Fprintln(conn, a*b)
	}
}
