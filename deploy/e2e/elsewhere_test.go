//go:build cluster

package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testElsewhere makes an installation beside the Redis of another one: by a
// `make up` that is interrupted, and a second one. It works, has no Redis of its
// own, and `make down` leaves nothing.
func testElsewhere(t *testing.T, other *installation) {
	i := prepare(t)
	terminal := i.terminal(t)
	images := other.images(t)
	terminal.env = append(terminal.env, "MAYFLY_REDIS_ADDRESS="+other.lend(t, i.namespace, 2),
		fmt.Sprintf("IMAGE=api=%s,engine=%s", images["api"], images["engine"]))
	i.interruptUp(t, terminal)
	terminal.run(t, []string{"make up"})
	i.reach(t)
	sets, err := i.Typed.AppsV1().StatefulSets(i.namespace).List(t.Context(), metav1.ListOptions{})
	check(t, err)
	if len(sets.Items) > 0 {
		t.Errorf("there is %s, though Redis is elsewhere", sets.Items[0].Name)
	}
	testPlay(t, i)
	i.wantDown(t, terminal)
}

// interruptUp presses Ctrl-C when `make up` has applied its first object.
func (i *installation) interruptUp(t *testing.T, terminal shell) {
	t.Helper()
	command := newCommand(t, "make", "-C", root, "up")
	command.Env = terminal.env
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	check(t, command.Start())
	ended := make(chan error, 1)
	go func() {
		ended <- command.Wait()
		_ = writer.Close() // It never fails.
	}()
	applied := false
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		t.Log(lines.Text())
		if !applied && strings.HasPrefix(lines.Text(), "applied ") {
			applied = true
			check(t, interrupt(command))
		}
	}
	if err := <-ended; err == nil || !applied {
		t.Fatalf("it was not interrupted, but ended with %v", err)
	}
	if n := len(i.functions(t)); n >= functions {
		t.Errorf("there are %d functions though it was interrupted", n)
	}
}

// wantDown runs `make down`, which returns when nothing is left.
func (i *installation) wantDown(t *testing.T, terminal shell) {
	t.Helper()
	terminal.run(t, []string{"make down"})
	i.isDown = true
	for _, name := range []string{i.namespace, i.namespace + "-instances"} {
		if _, err := i.Typed.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Error(errors.Join(fmt.Errorf("%s is there", name), err))
		}
	}
}
