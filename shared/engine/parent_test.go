package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/engine"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

// beParent is a process of its own that hangs in an Up.
func beParent(args []string) int {
	disk, cache, reference, digest := args[0], args[1], args[2], args[3]
	library, err := scenario.New(scenario.Options{CacheDir: cache})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	e, err := engine.New(context.Background(), engine.Options{Source: library, WorkerCommand: []string{self, "worker", disk}, WorkerEnv: []string{"DISK=" + disk}})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	p := ctf.Program{Scenario: ctf.Scenario{Reference: reference, Digest: digest}, Additional: map[string]string{"mode": "hang"}}
	p.Instance.Identity = ctf.NewIdentity()
	_, err = e.Up(context.Background(), p, ctf.Checkpoint{}, newLedger())
	fmt.Fprintln(os.Stdout, err)
	return 1
}

func TestParentKilled(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := shared.library.Open(t.Context(), shared.one) // so that it is cached
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	parent := exec.Command(self, "parent", disk, filepath.Join(shared.dir, "cache"), shared.one.Reference, shared.one.Digest)
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n')
		said <- line
	}()
	eventually(t, "a program runs", func() bool {
		select {
		case line := <-said:
			t.Fatalf("the parent ended: %s", line)
		default:
		}
		return len(children(workers(disk)...)) > 0
	})
	under := append(workers(disk), children(workers(disk)...)...)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "workers and programs are gone", func() bool {
		return !slices.ContainsFunc(under, runs)
	})
	<-said
	_ = parent.Wait()
}
