package clustertest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// An Example is a challenge of shared/sdk/examples, whose image is pushed.
type Example struct {
	// Scenario is what authors push: files by their names.
	Scenario map[string][]byte
	// Additional are the settings that a challenge of it needs.
	Additional map[string]string
	// Solve plays an instance once, as a player who is told of it, and returns
	// the flag. The instance may not answer yet.
	Solve func(told string) (flag string, err error)
}

// Examples names those that run on a cluster.
func Examples() []string { return []string{"notes", "vault", "shop", "web"} }

// NewExample builds the one of that name in the directory of examples. Its
// instances are at domain.
func NewExample(tb testing.TB, dir, name, domain string) Example {
	tb.Helper()
	if name == "web" { // its image may be any that shows $FLAG on port 8080
		return Example{
			Scenario: map[string][]byte{
				"Pulumi.yaml": read(tb, filepath.Join(dir, name, "Pulumi.yaml")),
				"scenario":    Program(tb, filepath.Join(dir, name)),
			},
			Additional: map[string]string{"image": exampleImage(tb, dir, "notes"), "secret": rand.Text(), "hostname": domain},
			Solve:      func(told string) (string, error) { return solveNotes(tb, told) },
		}
	}
	manifest := read(tb, filepath.Join(dir, name, "scenario", "mayfly.yaml"))
	image := exampleImage(tb, dir, name)
	solve := map[string]func(testing.TB, string) (string, error){"notes": solveNotes, "vault": solveVault, "shop": solveShop}[name]
	return Example{
		Scenario: map[string][]byte{
			"mayfly.yaml": bytes.ReplaceAll(manifest, []byte("registry.example/ctf/"+name+":1"), []byte(image)),
		},
		Solve: func(told string) (string, error) { return solve(tb, told) },
	}
}

func exampleImage(tb testing.TB, dir, name string) string {
	tb.Helper()
	return Image(tb, name, map[string][]byte{"program": Program(tb, filepath.Join(dir, name, "image"))})
}

func read(tb testing.TB, file string) []byte {
	tb.Helper()
	content, err := os.ReadFile(file)
	check(tb, err)
	return content
}

func findFlag(text string) (string, error) {
	if flag := regexp.MustCompile(`[A-Z]+\{[0-9a-f]{32}\}`).FindString(text); flag != "" {
		return flag, nil
	}
	return "", errors.New("no flag in " + text)
}

// solveNotes asks for the note that the list does not show.
func solveNotes(tb testing.TB, told string) (string, error) {
	page, err := Play(tb, told+"/note?id=0")
	if err != nil {
		return "", err
	}
	return findFlag(page)
}

// solveShop has the service ask the database for more than a price.
func solveShop(tb testing.TB, told string) (string, error) {
	page, err := Play(tb, told+"/?name="+url.QueryEscape("tea\nGET secret:flag"))
	if err != nil {
		return "", err
	}
	return findFlag(page)
}

// solveVault calculates. The name of the nodes is in no DNS.
func solveVault(tb testing.TB, told string) (string, error) {
	var host, port string
	if _, err := fmt.Sscanf(told, "nc %s %s", &host, &port); err != nil {
		return "", fmt.Errorf("players are told %q: %w", told, err)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(tb.Context(), "tcp", net.JoinHostPort(New(tb).NodeAddress(), port))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(playTimeout)); err != nil {
		return "", err
	}
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
